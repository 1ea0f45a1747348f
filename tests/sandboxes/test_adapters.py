"""The client's adapters with their real libraries, which `make adapters` installs apart from ours."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.patience import PATIENCE
from tests.sandboxes.conftest import KEYS
from tests.service.instance import ROOT, Service

pytestmark = [pytest.mark.root, pytest.mark.service]

PYTHON = Path(os.environ.get("ADAPTERS_PYTHON", ROOT / ".setup/adapters/bin/python"))
HERE = Path(__file__).parent / "adapters"
NOT_OURS = ["test_exec_as_user"]
"""Of inspect_ai's own checks: wants root and several users, and a sandbox has one."""


@pytest.mark.skipif(not PYTHON.exists(), reason="make adapters installs the libraries")
@pytest.mark.parametrize("script", ["with_smolagents.py", "with_inspect.py"])
def test_the_real_library_works_with_a_real_sandbox(served: Service, script: str) -> None:
    done = subprocess.run(
        [PYTHON, HERE / script, *(NOT_OURS if "inspect" in script else [])],
        env={
            **os.environ, "SANDBOXD_URL": served.url, "SANDBOXD_API_KEY": KEYS["ann"],
            "PYTHONPATH": str(ROOT / "clients/python"),
        },
        capture_output=True, text=True, timeout=110 * PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert "fine" in done.stdout
