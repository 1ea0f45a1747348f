"""Real sandboxes for the node's tests, under the shipped policy."""

import os
import secrets
from collections.abc import Iterator

import pytest

from sandboxd.drivers.exec.base import Spec
from sandboxd.drivers.exec.cgroups import find
from sandboxd.drivers.exec.native import NativeDriver
from sandboxd.drivers.exec.uids import UidSlots
from sandboxd.drivers.graph import host_image
from sandboxd.native import compile_seccomp
from sandboxd.settings import Settings
from tests.node.bench import MIB, Bench

INSTANCE = f"no-{os.getpid()}-{secrets.token_hex(3)}"


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A driver of this session. The session fails if a control group of its is left."""
    directory = tmp_path_factory.mktemp("node")
    stage = directory / "stage"
    stage.mkdir()
    cgroups = find(INSTANCE)
    uids = UidSlots(0xD000_0000, 64, directory / "locks")
    driver = NativeDriver(cgroups, uids, stage)
    policy = Settings().policy_path / "seccomp" / "default.json"
    spec = Spec(
        template="default",
        image=host_image.build(directory / "images", {}),
        seccomp=compile_seccomp(policy.read_bytes()),
        apparmor="",
        cpus=1.0,
        memory=128 * MIB,
        pids=16,
        disk=16 * MIB,
    )
    try:
        yield Bench(driver, spec, INSTANCE)
    finally:
        left = cgroups.sweep()
        driver.close()
        uids.close()
        cgroups.close()
    assert left == 0, "sandboxes were left"
