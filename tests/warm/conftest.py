"""A service of the comparison's own, on which each run's path is certain."""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sandboxd.settings import Settings
from tests.service.instance import ServiceError, running
from tests.warm.comparison import AT_ONCE, Comparison

READY = 24
"""Warm interpreters: as many runs begin together, and each finds one."""
FULL_WITHIN = 90.0


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comparison]:
    """No sandbox but warm ones is built ahead, so each run that goes cold is one claim in vain, and
    the node counts those."""
    directory = tmp_path_factory.mktemp("warm") / "policies"
    shutil.copytree(Settings().policy_path, directory)
    _set(directory / "templates" / "default.toml", "pool_size", 0)
    _set(directory / "languages" / "python.toml", "pool_size", READY)
    with (
        running(f"policies={directory}", "node.heartbeat=0.2") as service,
        httpx.Client(
            base_url=service.url, timeout=120, limits=httpx.Limits(max_connections=AT_ONCE)
        ) as client,
    ):
        yield Comparison(client, READY, _until_full)


def _set(path: Path, name: str, value: int) -> None:
    text, count = re.subn(rf"(?m)^{name} = \d+$", f"{name} = {value}", path.read_text())
    assert count == 1, f"{path.name} has no {name}"
    path.write_text(text)


def _until_full(comparison: Comparison) -> None:
    """Until the node has announced that all warm interpreters wait."""
    deadline = time.monotonic() + FULL_WITHIN
    while comparison.counted('sandboxd_node_pool{.*template="default.python"}') < READY:
        if time.monotonic() > deadline:
            raise ServiceError(f"no {READY} warm interpreters within {FULL_WITHIN} s")
        time.sleep(0.05)
