"""Tests of this folder are about the guest's kernel: elsewhere they would prove nothing."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.inside.groups import wait_for

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("VM_LANE") or config.getoption("vm", default=False):
        return
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.skip(reason="runs in the virtual machine: make vm-test"))


@pytest.fixture
def cgroup(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A fresh cgroup below the root; what is left in it is killed, then it is removed."""
    path = Path("/sys/fs/cgroup", f"test-{request.node.name}")
    path.mkdir()
    yield path
    (path / "cgroup.kill").write_text("1")
    wait_for(path, "populated 0")
    path.rmdir()
