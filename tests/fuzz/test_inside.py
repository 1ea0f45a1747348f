"""Random system calls inside real sandboxes; what matters is the host, and that it is as before."""

import hashlib
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import replace

from sandboxd.drivers.exec.base import Spec
from sandboxd.drivers.exec.cgroups import Cgroups, find
from sandboxd.drivers.exec.native import NativeDriver
from sandboxd.drivers.exec.uids import SLOT, UidSlots
from sandboxd.drivers.graph import host_image
from sandboxd.native import compile_seccomp
from sandboxd.settings import Settings
from tests.fuzz.pace import SECONDS
from tests.native.box import run
from tests.native.footprint import Footprint, footprint
from tests.service.host import processes_of_uids

pytestmark = [pytest.mark.root, pytest.mark.timeout(120 + 4 * SECONDS)]

MIB = 1 << 20
UID_BASE = 0xD000_0000
INSTANCE = f"fz-{os.getpid()}-{secrets.token_hex(3)}"
ROUND = min(SECONDS, 10)
ROUNDS = max(3, SECONDS // ROUND)


class Sight(Struct, frozen=True):
    """What the host holds that a sandbox must not touch."""

    footprint: Footprint
    canary: tuple[int, int, int, str]
    tainted: str
    hostname: str
    interfaces: tuple[str, ...]
    mounts: int


def _networks_held() -> set[tuple[int, str]]:
    """Those of other drivers of this session."""
    return {fd for fd in footprint(INSTANCE, Path("/")).fds if fd[1].startswith("net:[")}


class Ground:
    def __init__(self, directory: Path, cgroups: Cgroups) -> None:
        self._others = frozenset(_networks_held())
        directory.chmod(0o755)
        self.stage, self._canary = directory / "stage", directory / "canary"
        self.stage.mkdir()
        self._canary.write_text("root alone")
        self._canary.chmod(0o600)
        self._uids = UidSlots(UID_BASE, ROUNDS, directory / "locks")
        self.driver = NativeDriver(cgroups, self._uids, self.stage)
        policy = Settings().policy_path / "seccomp" / "default.json"
        self.spec = Spec(
            template="fuzz", image=host_image.build(directory / "images", {}),
            seccomp=compile_seccomp(policy.read_bytes()), apparmor="", cpus=1.0, memory=96 * MIB,
            pids=24, disk=8 * MIB,
        )  # fmt: skip

    def look(self) -> Sight:
        status = self._canary.stat()
        digest = hashlib.sha256(self._canary.read_bytes()).hexdigest()
        held = footprint(INSTANCE, self.stage)
        # An empty network namespace that nothing has used is kept for the next sandbox.
        kept = {fd for fd in held.fds if fd[1].startswith("net:[")}
        assert len(kept - self._others) <= 1
        return Sight(
            footprint=replace(held, fds=held.fds - kept),
            canary=(status.st_mode, status.st_uid, status.st_mtime_ns, digest),
            tainted=Path("/proc/sys/kernel/tainted").read_text(),
            hostname=socket.gethostname(),
            interfaces=tuple(name for _, name in socket.if_nameindex() if name.startswith("sb")),
            mounts=Path("/proc/self/mountinfo").read_text().count(str(self.stage)),
        )

    def close(self) -> None:
        self.driver.close()


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    cgroups = find(INSTANCE)
    ground = Ground(tmp_path, cgroups)
    yield ground
    ground.close()
    cgroups.sweep()
    cgroups.close()


def test_random_system_calls_leave_the_host_as_it_was(ground: Ground, tmp_path: Path) -> None:
    program = tmp_path / "syscalls"
    source = Path(__file__).parent / "inside" / "syscalls.c"
    subprocess.run(["musl-gcc", "-static", "-O1", "-o", program, source], check=True)
    before, calls = ground.look(), 0
    for _ in range(ROUNDS):
        seed = str(secrets.randbits(63))
        print(f"seed {seed}")
        built = ground.driver.build(ground.spec)
        try:
            ran = run(
                built.native, ["./syscalls", seed, str(ROUND)],
                files=[("syscalls", 0o755, program.read_bytes())],
            )  # fmt: skip
        finally:
            ground.driver.destroy(built)
        words = ran.out().split()
        assert words[:2] == [b"seed", seed.encode()]
        calls += int(words[5])
        assert processes_of_uids(range(UID_BASE, UID_BASE + ROUNDS * SLOT)) == []
        assert ground.look() == before, f"seed {seed}"
    assert calls > 100 * ROUNDS
