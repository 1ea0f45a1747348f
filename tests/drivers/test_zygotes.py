"""Sandboxes whose interpreter is a copy of a zygote: locked as any, and nothing of the zygote's."""

import os
import queue
import secrets
import select
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from sandboxd.drivers.exec import inside, zygotes
from sandboxd.drivers.exec.base import Built, Spec, WarmUp
from sandboxd.drivers.exec.cgroups import find
from sandboxd.drivers.exec.native import NativeDriver
from sandboxd.drivers.exec.uids import UidSlots
from sandboxd.drivers.graph import host_image
from sandboxd.errors import NativeFault
from sandboxd.native import ExecOrder, Native, compile_seccomp
from sandboxd.settings import Settings
from tests.native.box import run
from tests.native.footprint import footprint
from tests.patience import PATIENCE

pytestmark = pytest.mark.root

MIB = 1 << 20
COPIES = 3
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
LOCKS = (
    "Umask", "Uid", "Gid", "Groups", "SigQ", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt",
    "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters",
    "Threads", "THP_enabled",
)  # fmt: skip
"""Lines of /proc/<pid>/status."""


class Bench:
    def __init__(self, directory: Path) -> None:
        self.instance = f"dz-{os.getpid()}-{secrets.token_hex(3)}"
        self.stage = directory / "stage"
        self.stage.mkdir()
        self.cgroups = find(self.instance)
        self.uids = UidSlots(0xC000_0000, 8, directory / "locks")
        self.driver = NativeDriver(self.cgroups, self.uids, self.stage)
        policy = Settings().policy_path / "seccomp" / "default.json"
        env = {"PATH": "/usr/bin:/bin", "HOME": "/work", "PYTHONPATH": "/opt/sandboxd/python"}
        self.cold = Spec(
            template="t",
            image=host_image.build(directory / "images", {}),
            seccomp=compile_seccomp(policy.read_bytes()),
            apparmor="",
            cpus=1.0,
            memory=64 * MIB,
            pids=8,
            disk=16 * MIB,
        )
        self.started = self._warm(_order(env), COPIES, inside.install(directory / "inside"))

    def _warm(self, order: ExecOrder, copies: int, binds: tuple[inside.Bind, ...]) -> Spec:
        zygote = replace(order, env={**order.env, inside.ZYGOTE: "1"})
        warm = WarmUp(order=order, zygote=zygote, copies=copies, binds=binds)
        return replace(self.cold, template="t+python", warm=warm)

    def copy(self) -> Built:
        return self.driver.build(self.started)

    def prestarted(self) -> Built:
        """The same, whose interpreter was started in it."""
        assert self.started.warm is not None
        return self.driver.build(
            replace(self.started, warm=replace(self.started.warm, copies=0), template="p")
        )

    def close(self) -> None:
        self.driver.close()
        self.cgroups.close()


def _order(env: dict[str, str]) -> ExecOrder:
    return ExecOrder(
        argv=["/usr/bin/python3", "main.py"], env=env, open_files=64, stack=8 * MIB,
        file_size=16 * MIB, warm=True,
    )  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    before = footprint(bench.instance, bench.stage)
    bench.driver.destroy(bench.driver.build(bench.cold))  # by which it knows that Landlock holds
    yield bench
    bench.close()
    after = footprint(bench.instance, bench.stage)
    assert after == replace(before, fds=after.fds)
    assert len(after.fds) <= len(before.fds)


def job(built: Built) -> int:
    """Pid of the interpreter, as the host sees it."""
    pid = built.native.pid
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def script(built: Built, source: str) -> str:
    answer = run(
        built.native, ["/usr/bin/python3", "main.py"], files=[("main.py", 0o644, source.encode())]
    )
    return answer.out().decode()


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return {name: found[name] for name in LOCKS if name in found}


def _relative(built: Built, status: dict[str, str]) -> dict[str, str]:
    """With ids as distances from the sandbox's first."""
    ids = {name: [int(n) - built.uid for n in status[name].split()] for name in ("Uid", "Gid")}
    return {**status, **{name: str(found) for name, found in ids.items()}}


def _init(built: Built) -> dict[str, str]:
    """Without its limits, what it blocks of the signals that C libraries keep to themselves, and what
    the node had ignored."""
    found = _relative(built, _status(built.native.pid))
    blocked = int(found["SigBlk"], 16) & ~(7 << 31)
    return {**found, "SigQ": "", "SigIgn": "", "SigBlk": hex(blocked)}


def _mounts(pid: int) -> list[tuple[str, str]]:
    lines = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return sorted((line[4], line[5]) for line in lines if not line[4].startswith("/opt"))


VIEWS: dict[str, Callable[[Built, int], object]] = {
    "status": lambda built, pid: _relative(built, _status(pid)),
    "limits": lambda _, pid: Path(f"/proc/{pid}/limits").read_text(),
    "oom": lambda _, pid: Path(f"/proc/{pid}/oom_score_adj").read_text(),
    "mounts": lambda _, pid: _mounts(pid),
    "name": lambda _, pid: Path(f"/proc/{pid}/comm").read_text(),
    "directory": lambda _, pid: os.readlink(f"/proc/{pid}/cwd"),
    "personality": lambda _, pid: Path(f"/proc/{pid}/personality").read_text(),
    "slack": lambda _, pid: Path(f"/proc/{pid}/timerslack_ns").read_text(),
    "session": lambda _, pid: (os.getsid(pid) == pid, os.getpgid(pid) == pid),
    "scheduling": lambda _, pid: (os.sched_getscheduler(pid), os.getpriority(os.PRIO_PROCESS, pid)),
    "descriptors": lambda _, pid: sorted(os.listdir(f"/proc/{pid}/fd")),
    "owner": lambda built, pid: os.stat(f"/proc/{pid}/environ").st_uid - built.uid,
    "init": lambda built, _: _init(built),
    "init's descriptors": lambda built, _: sorted(os.listdir(f"/proc/{built.native.pid}/fd")),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_copy_is_locked_as_an_interpreter_that_was_started_inside(
    name: str, bench: Bench
) -> None:
    copy, other = bench.copy(), bench.prestarted()
    try:
        assert bench.driver.zygotes.started == 1
        time.sleep(0.05)  # both have said that they wait; let them come to wait
        view = VIEWS[name]
        assert view(copy, job(copy)) == view(other, job(other))
    finally:
        bench.driver.destroy(copy)
        bench.driver.destroy(other)


def test_a_copy_has_the_layers_of_any_sandbox(bench: Bench) -> None:
    copy, other = bench.copy(), bench.prestarted()
    assert copy.layers == other.layers
    assert {"seccomp", "landlock", "userns", "no_new_privs", "capabilities"} <= copy.layers
    bench.driver.destroy(copy)
    bench.driver.destroy(other)


def test_a_copy_shares_no_namespace_with_us_its_zygote_or_its_sibling(bench: Bench) -> None:
    copies = [bench.copy(), bench.copy()]
    zygote = next(iter(bench.driver.zygotes.pids()))
    for name in NAMESPACES:
        pids = [os.getpid(), zygote, *(job(copy) for copy in copies)]
        seen = [os.readlink(f"/proc/{pid}/ns/{name}") for pid in pids]
        apart = seen[2:] if name in ("cgroup", "pid", "user") else seen[1:]
        assert len(set(apart)) == len(apart), name
        assert seen[0] not in seen[2:], name
    for copy in copies:
        bench.driver.destroy(copy)


INSIDE = """
import ctypes, errno, os
def refused(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "allowed"
print(refused(os.open, "/proc/self/exe", os.O_RDONLY))
print(refused(os.execv, "/proc/self/exe", ["x", "-c", "0"]))
area = "/proc/self/map_files/" + os.listdir("/proc/self/map_files")[0]
print(refused(os.open, area, os.O_RDONLY))
print(refused(os.listdir, "/proc/1"), os.getppid(), os.getpid())
print(sorted(os.listdir("/proc/self/fd")))
print(os.path.exists("/opt/sandboxd/python"), os.listdir("/work"))
print([name for name in os.listdir("/proc") if name.isdigit()])
libc = ctypes.CDLL(None, use_errno=True)
print(libc.setns(0, 0), errno.errorcode[ctypes.get_errno()])
"""


def test_a_copy_reaches_nothing_of_its_zygote(bench: Bench) -> None:
    """What it has of it is memory: its own, and no way to the file that its program came from."""
    copy = bench.copy()
    lines = script(copy, INSIDE).splitlines()
    assert lines == [
        "EACCES",
        "EACCES",
        "EPERM",
        "ENOENT 1 2",
        "['0', '1', '2', '3']",  # the last is the listing's own
        "False ['main.py']",
        "['2']",
        "-1 EPERM",
    ]
    bench.driver.destroy(copy)


def test_a_copy_holds_nothing_of_its_plan(bench: Bench) -> None:
    """The plan names directories of the host, and no exec has wiped it."""
    copy = bench.copy()
    stage = str(bench.stage)
    source = f"""
word = bytes({list(stage.encode()[:-1])}) + bytes([{ord(stage[-1])}])
found = 0
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
    for line in maps:
        area, rights = line.split()[:2]
        first, last = (int(n, 16) for n in area.split("-"))
        if rights.startswith("rw") and "[v" not in line:
            memory.seek(first)
            found += memory.read(last - first).count(word)
print(found)
"""
    assert int(script(copy, source)) == 1  # the script's own `word`
    bench.driver.destroy(copy)


def test_a_zygote_makes_so_many_copies_and_no_more(bench: Bench) -> None:
    copies = [bench.copy() for _ in range(COPIES)]
    (first,) = bench.driver.zygotes.pids()
    copies.append(bench.copy())
    (second,) = bench.driver.zygotes.pids()
    assert first != second and not Path(f"/proc/{first}").exists()
    secrets_drawn = [script(copy, "print(hash('x'))") for copy in copies]
    assert len(set(secrets_drawn[:COPIES])) == 1
    assert secrets_drawn[COPIES] != secrets_drawn[0]
    for copy in copies:
        bench.driver.destroy(copy)


def test_a_zygote_grows_old(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.driver.destroy(bench.copy())
    monkeypatch.setattr(zygotes, "MAX_AGE", 0.0)
    bench.driver.destroy(bench.copy())
    assert bench.driver.zygotes.started == 2


def test_a_zygote_that_died_is_replaced_and_its_copies_live_on(bench: Bench) -> None:
    copy = bench.copy()
    (pid,) = bench.driver.zygotes.pids()
    os.kill(pid, signal.SIGKILL)
    copies = [copy, bench.copy(), bench.copy()]  # the second perhaps before its end is seen
    assert [script(copy, "print(1)") for copy in copies] == ["1\n"] * 3
    assert bench.driver.zygotes.started == 2
    for copy in copies:
        bench.driver.destroy(copy)


def test_many_threads_copy_at_once(bench: Bench) -> None:
    with ThreadPoolExecutor(4) as threads:
        for _ in range(3):
            built = list(threads.map(lambda _: bench.copy(), range(6)))
            answers = list(threads.map(lambda copy: script(copy, "print(6 * 7)"), built))
            assert answers == ["42\n"] * 6
            list(threads.map(bench.driver.destroy, built))


def test_what_cannot_start_as_a_zygote_starts_in_its_sandbox(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    assert bench.started.warm is not None
    broken = replace(bench.started.warm.zygote, argv=["/nonexistent"])
    spec = replace(bench.started, warm=replace(bench.started.warm, zygote=broken))
    for _ in range(2):
        built = bench.driver.build(spec)
        assert script(built, "print(1)") == "1\n"
        bench.driver.destroy(built)
    assert bench.driver.zygotes.started == 0
    assert len([record for record in caplog.records if "no zygote" in record.message]) == 1


def test_a_zygote_that_does_not_start_holds_up_its_template_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench.started.warm is not None
    begun: queue.Queue[Native] = queue.Queue()
    start = bench.driver.zygotes._start

    def noted(spec: Spec) -> Native:
        native = start(spec)
        begun.put(native)
        return native

    monkeypatch.setattr(bench.driver.zygotes, "_start", noted)
    deaf = replace(bench.started.warm.zygote, argv=["/usr/bin/sleep", "600"])
    warm = replace(bench.started.warm, zygote=deaf)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(bench.driver.build, replace(bench.started, warm=warm, template="deaf"))
        native = begun.get(timeout=30)
        try:
            bench.driver.destroy(bench.copy())
            assert not slow.done()
        finally:
            signal.pidfd_send_signal(native.pidfd, signal.SIGKILL)
        bench.driver.destroy(slow.result())


def test_a_layer_that_is_left_out_takes_the_zygote_with_it(tmp_path: Path) -> None:
    """A copy relies on Landlock: the test build that lacks it starts interpreters one by one."""
    bench = Bench(tmp_path)
    try:
        bench.driver.destroy(bench.driver.build(bench.cold))
        bench.driver.skip_layers = 1
        bench.driver.destroy(bench.copy())
        assert bench.driver.zygotes.started == 0
    finally:
        bench.close()


def test_no_program_of_an_image_becomes_a_zygote(bench: Bench) -> None:
    """It would run with every right."""
    image = replace(bench.started.image, uid_base=100_000)
    with bench.driver.zygotes.lend(replace(bench.started, image=image)) as zygote:
        assert zygote == -1


def test_a_copy_that_fails_leaves_nothing_and_ends_its_zygote(bench: Bench) -> None:
    bench.driver.destroy(bench.copy())
    (pid,) = bench.driver.zygotes.pids()
    with pytest.raises(NativeFault):
        bench.driver.build(replace(bench.started, seccomp=b"\0" * 8))
    bench.driver.destroy(bench.copy())
    assert not Path(f"/proc/{pid}").exists()
    assert bench.driver.zygotes.started == 2


def _settled(bench: Bench) -> Built:
    """A copy that waits for its order."""
    copy = bench.copy()
    deadline = time.monotonic() + 5 * PATIENCE
    status = Path(f"/proc/{job(copy)}/stat")
    while status.read_text().rpartition(")")[2].split()[0] != "S":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return copy


def test_an_idle_copy_is_small(bench: Bench) -> None:
    """Three MiB of its own: what a small program writes to, learnt by running one."""
    copy = _settled(bench)
    rollup = Path(f"/proc/{job(copy)}/smaps_rollup").read_text()
    private = sum(int(line.split()[1]) for line in rollup.splitlines() if "Private" in line)
    assert private * 1024 < 3 * MIB
    bench.driver.destroy(copy)


def test_what_a_small_program_writes_to_is_the_copys_own_before_it_starts(bench: Bench) -> None:
    copy = _settled(bench)
    before = int(Path(f"/proc/{job(copy)}/stat").read_text().rpartition(")")[2].split()[7])
    faults = script(
        copy, "import resource\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)"
    )
    assert int(faults) - before < before / 2
    bench.driver.destroy(copy)


def test_copies_end_with_their_control_socket(bench: Bench) -> None:
    """As when the node is killed: nobody is left who could end them."""
    copy = bench.copy()
    pidfd = os.dup(copy.native.pidfd)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, copy.native.control)
    os.close(null)
    gone = select.poll()
    gone.register(pidfd, select.POLLIN)
    assert gone.poll(5000)
    os.close(pidfd)
    bench.driver.destroy(copy)


def _importing(bench: Bench, modules: str, **env: str) -> None:
    warm = bench.started.warm
    assert warm is not None
    more = {inside.MODULES: modules, **env}
    bench.started = replace(
        bench.started,
        warm=replace(
            warm,
            order=replace(warm.order, env={**warm.order.env, **more}),
            zygote=replace(warm.zygote, env={**warm.zygote.env, **more}),
        ),
    )


def test_modules_are_there_and_draw_anew(bench: Bench) -> None:
    _importing(bench, "numpy multiprocessing.process random", OPENBLAS_NUM_THREADS="1")
    source = """
import sys
print(all(name in sys.modules for name in ("numpy", "numpy.random", "multiprocessing.process")))
import multiprocessing.process, numpy, random
print(numpy.random.rand(), random.random(), bytes(multiprocessing.process.current_process().authkey))
"""
    copies = [bench.copy(), bench.copy()]
    first, second = (script(copy, source).splitlines() for copy in copies)
    assert bench.driver.zygotes.started == 1
    assert first[0] == second[0] == "True"
    assert not set(first[1].split(" ", 2)) & set(second[1].split(" ", 2))
    for copy in copies:
        bench.driver.destroy(copy)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="with one core NumPy starts no threads")
def test_a_module_that_starts_threads_makes_no_zygote(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    _importing(bench, "numpy")
    built = bench.copy()
    assert script(built, "print(1)") == "1\n"
    assert bench.driver.zygotes.started == 0 and "no zygote" in caplog.text
    bench.driver.destroy(built)
