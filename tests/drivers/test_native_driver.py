"""Sandboxes as the driver makes and ends them."""

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from sandboxd.drivers.exec.base import Spec
from sandboxd.drivers.exec.cgroups import find
from sandboxd.drivers.exec.native import NativeDriver, inodes
from sandboxd.drivers.exec.uids import UidSlots
from sandboxd.drivers.graph import host_image
from sandboxd.drivers.graph.host_image import Image
from sandboxd.errors import DriverFault, NativeFault, Overload
from sandboxd.native import compile_seccomp, send_exec
from sandboxd.native.core import STAGES
from sandboxd.settings import Settings, SettingsError
from tests.drivers.members import directories
from tests.native.box import order, run
from tests.native.footprint import Footprint, footprint

pytestmark = pytest.mark.root

MIB = 1 << 20
INSTANCE = f"dn-{os.getpid()}-{secrets.token_hex(3)}"
SLOTS = 6


class Bench:
    """A driver with its own few uid ranges, and a spec to build."""

    def __init__(self, directory: Path, image: Image) -> None:
        self.stage = directory / "stage"
        self.stage.mkdir()
        self.cgroups = find(INSTANCE)
        self.uids = UidSlots(0xC000_0000, SLOTS, directory / "locks")
        self.driver = NativeDriver(self.cgroups, self.uids, self.stage, testing=True)
        policy = Settings().policy_path / "seccomp" / "default.json"
        self.spec = Spec(
            template="t",
            image=image,
            seccomp=compile_seccomp(policy.read_bytes()),
            apparmor="",
            cpus=1.0,
            memory=64 * MIB,
            pids=8,
            disk=16 * MIB,
        )

    def now(self) -> Footprint:
        """Without the network namespaces that the driver keeps for the next sandbox."""
        found = footprint(INSTANCE, self.stage)
        fds = frozenset(fd for fd in found.fds if not fd[1].startswith("net:["))
        return replace(found, fds=fds)


def networks() -> set[str]:
    """Network namespaces held by descriptor: other drivers of the session keep some, too."""
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return {
        name
        for link in links
        if os.path.lexists(link) and (name := os.readlink(link)).startswith("net:[")
    }


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return host_image.build(tmp_path_factory.mktemp("images"), {})


@pytest.fixture
def bench(tmp_path: Path, image: Image) -> Iterator[Bench]:
    outside = networks()
    bench = Bench(tmp_path, image)
    before = bench.now()
    yield bench
    assert bench.now() == before
    bench.driver.close()
    bench.cgroups.close()
    assert networks() <= outside


def test_built_sandbox_has_its_limits_and_names_its_layers(bench: Bench) -> None:
    built = bench.driver.build(bench.spec)
    texts = {
        file: int((path / file).read_text())
        for path in directories(INSTANCE, built.name)
        for file in ("memory.limit_in_bytes", "memory.max", "pids.max")
        if (path / file).exists()
    }
    assert texts.pop("pids.max") == 9  # init is one of them
    assert set(texts.values()) == {64 * MIB}
    assert {"userns", "pidns", "seccomp", "landlock", "cgroup_memory"} <= built.layers
    (status,) = [
        line
        for line in Path(f"/proc/{built.native.pid}/status").read_text().splitlines()
        if line.startswith("Uid")
    ]
    # Init's effective uid is not the job's: the job may not trace it, nor change its limits.
    assert status.split()[1:] == [str(built.uid + n) for n in (1000, 999, 999, 1000)]
    bench.driver.destroy(built)


def test_every_live_sandbox_has_uids_of_its_own(bench: Bench) -> None:
    with ThreadPoolExecutor(4) as threads:
        built = list(threads.map(lambda _: bench.driver.build(bench.spec), range(SLOTS)))
        assert len({each.uid for each in built}) == SLOTS
        assert len({each.name for each in built}) == SLOTS
        with pytest.raises(Overload):
            bench.driver.build(bench.spec)
        list(threads.map(bench.driver.destroy, built))
    assert bench.uids.take()


@pytest.mark.parametrize("stage", ["cgroups", "overlay", "userns", "ready", "seccomp"])
def test_failed_build_gives_its_uids_and_groups_back(bench: Bench, stage: str) -> None:
    bench.driver.fault_stage = STAGES.index(stage)
    for _ in range(SLOTS + 1):
        with pytest.raises(NativeFault, match=f"stage {stage}"):
            bench.driver.build(bench.spec)
    bench.driver.fault_stage = 0
    bench.driver.destroy(bench.driver.build(bench.spec))


def test_refused_group_gives_its_uids_back(bench: Bench) -> None:
    for _ in range(SLOTS + 1):
        with pytest.raises(DriverFault, match="cgroups"):
            bench.driver.build(replace(bench.spec, cpus=0.0))
    bench.driver.destroy(bench.driver.build(bench.spec))


def test_destroy_ends_processes_that_fork_and_ignore_signals(bench: Bench) -> None:
    built = bench.driver.build(bench.spec)
    caps = [path / "pids.max" for path in directories(INSTANCE, built.name)]
    assert [int(path.read_text()) for path in caps if path.exists()] == [9]
    script = b"""
import os, signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
print("ready", flush=True)
while True:
    try:
        os.fork()
        os.setsid()
    except OSError:
        pass
"""
    out, child = os.pipe()
    send_exec(
        built.native.exec,
        order(["/usr/bin/python3", "-IS", "b.py"], {}, [("b.py", 0o644, script)]),
        None, child, child,
    )  # fmt: skip
    os.close(child)
    assert os.read(out, 6) == b"ready\n"
    bench.driver.destroy(built)
    while os.read(out, 4096):  # ends when the last process that held the pipe is gone
        pass
    os.close(out)


def test_sandbox_whose_init_died_is_destroyed_like_any(bench: Bench) -> None:
    built = bench.driver.build(bench.spec)
    signal.pidfd_send_signal(built.native.pidfd, signal.SIGKILL)
    bench.driver.destroy(built)


def test_program_runs_in_what_the_driver_built(bench: Bench) -> None:
    built = bench.driver.build(bench.spec)
    assert run(built.native, ["/bin/echo", "hi"]).out() == b"hi\n"
    bench.driver.destroy(built)


def test_building_in_a_thread_does_not_hold_up_another(bench: Bench) -> None:
    """The GIL is free during a build: the other thread counts on."""
    done = threading.Event()
    counted = 0

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1

    counter = threading.Thread(target=count)
    counter.start()
    try:
        for _ in range(5):
            bench.driver.destroy(bench.driver.build(bench.spec))
    finally:
        done.set()
        counter.join()
    assert counted > 0


def test_inodes_grow_with_the_disk_within_bounds() -> None:
    assert inodes(4096) == 1024
    assert inodes(1 << 30) == (1 << 30) // 16_384
    assert inodes(1 << 40) == 1 << 20


def test_policy_that_is_no_policy_is_refused() -> None:
    good = (
        b'{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [],'
        b' "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]}'
    )
    assert compile_seccomp(good)
    for bad in (
        b"",
        b"{",
        b"[]",
        good.replace(b"SCMP_ACT_ERRNO", b"SCMP_ACT_TRACE"),
        good.replace(b'"syscalls"', b'"defaultErrnoRet": 2147090432, "syscalls"'),
        good.replace(b"_X86_64", b"_S390X").replace(b"_AARCH64", b"_S390"),
        good.replace(
            b'"syscalls": []',
            b'"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",'
            b' "args": [{"index": 0, "op": "ODD", "value": 1}]}]',
        ),
    ):
        with pytest.raises(SettingsError, match="seccomp policy"):
            compile_seccomp(bad)
