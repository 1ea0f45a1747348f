"""Policies under which stocks do not follow demand, so that a service's footprints can be compared."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandboxd.settings import Settings


@contextmanager
def fixed_stock() -> Iterator[str]:
    """The setting that has them."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-") as directory:
        Path(directory).chmod(0o711)
        policies = Path(directory) / "policies"
        shutil.copytree(Settings().policy_path, policies)
        for path in (policies / "templates").glob("*.toml"):
            path.write_text(re.sub(r"(?m)^pool_max = .*$", "", path.read_text()))
        # On a slow machine they start for minutes, and are there long after all else has become calm.
        (policies / "languages" / "python-data.toml").unlink()
        for name in ("node", "java"):
            language = policies / "languages" / f"{name}.toml"
            text = re.sub(r"(?m)^(pool_size|pool_max) = .*$", r"\1 = 0", language.read_text())
            language.write_text(text)
        yield f"policies={policies}"
