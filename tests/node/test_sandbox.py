"""One sandbox, watched: every way a program ends, and what comes out of it afterwards."""

import asyncio
import errno
import os
import select
import signal
import time

import pytest
from msgspec.structs import replace

from sandboxd.errors import NativeFault
from sandboxd.model import Status
from sandboxd.native import ExecOrder, Failed
from sandboxd.node.outcome import Stop
from sandboxd.node.sandbox import NotStarted, Sandbox
from sandboxd.node.stdio import FixedInput, LiveInput, Output
from tests.node.bench import LIMITS, MIB, Bench

pytestmark = pytest.mark.root


async def test_exit_code_streams_and_accounting(bench: Bench) -> None:
    made = await bench.python(
        "import sys; print(input()); print('err', file=sys.stderr); sys.exit(7)",
        stdin=FixedInput(b"line\n"),
    )
    assert (made.stdout, made.stderr) == (b"line\n", b"err\n")
    assert (made.verdict.status, made.verdict.exit_code) == (Status.NONZERO_EXIT, 7)
    facts = made.ended.facts
    assert 0 < facts.cpu_time < 5 and 0 < facts.wall_time < 20
    assert MIB < made.ended.peak_memory <= LIMITS.memory


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGPIPE])
async def test_signal_is_the_verdict(bench: Bench, number: signal.Signals) -> None:
    made = await bench.run(["/bin/sh", "-c", f"kill -{int(number)} $$"])
    assert (made.verdict.status, made.verdict.signal) == (Status.SIGNALLED, number.name)


async def test_wall_time_stops_a_sleeper(bench: Bench) -> None:
    made = await bench.run(["/bin/sleep", "60"], replace(LIMITS, wall_time=0.2))
    assert made.verdict.status is Status.WALL_TIME_EXCEEDED
    assert 0.2 <= made.ended.facts.wall_time < 20


async def test_cpu_time_of_children_stops_a_sleeping_parent(bench: Bench) -> None:
    code = "import os, time\nif os.fork() == 0:\n  while True: pass\ntime.sleep(60)"
    made = await bench.python(code, replace(LIMITS, cpu_time=0.3))
    assert made.verdict.status is Status.CPU_TIME_EXCEEDED
    assert 0.3 <= made.ended.facts.cpu_time < 5


async def test_memory_stops_who_takes_too_much(bench: Bench) -> None:
    made = await bench.python(
        f"x = bytearray({64 * MIB}); print(len(x))", replace(LIMITS, memory=24 * MIB), capped=True
    )
    assert made.verdict.status is Status.MEMORY_EXCEEDED
    assert made.ended.peak_memory <= 24 * MIB and made.stdout == b""


@pytest.mark.parametrize("memory", [4_096, 65_536, 262_144])
async def test_limit_below_what_a_sandbox_takes_is_memory_exceeded(
    bench: Bench, memory: int
) -> None:
    """The job chose it, so it is the job's end, not a fault of ours."""
    made = await bench.run(["/bin/true"], replace(LIMITS, memory=memory))
    assert made.verdict.status is Status.MEMORY_EXCEEDED


@pytest.mark.parametrize("disk", [4_096, 64 * MIB])
async def test_disk_is_resized_to_the_limit(bench: Bench, disk: int) -> None:
    made = await bench.run(
        ["/usr/bin/df", "-B1", "--output=size", "/work"], replace(LIMITS, disk=disk)
    )
    assert made.stdout.split()[-1] == str(disk).encode()


async def test_output_above_the_cap_stops_the_program(bench: Bench) -> None:
    made = await bench.run(["/usr/bin/yes"])
    assert made.verdict.status is Status.OUTPUT_EXCEEDED
    assert made.stdout == (b"y\n" * 4096)[:4096]


async def test_full_disk_is_told(bench: Bench) -> None:
    made = await bench.run(["/bin/dd", "if=/dev/zero", "of=x", "bs=64K"], replace(LIMITS, disk=MIB))
    assert made.verdict.status is Status.DISK_EXCEEDED


@pytest.mark.parametrize("collect", [[], ["out"]])
async def test_result_arrives_though_a_grandchild_holds_stdout(
    bench: Bench, collect: list[str]
) -> None:
    code = """
import os, signal
open("out", "w").write("kept")
if os.fork() == 0:
    os.setsid()
    signal.pause()
print("done")
"""
    made = await bench.python(code, collect=collect)
    assert (made.verdict.status, made.stdout) == (Status.OK, b"done\n")
    assert [file.data for file in made.brought] == [b"kept"] * len(collect)


async def test_late_grandchild_does_not_make_a_timely_end_late(bench: Bench) -> None:
    """The wall clock stops at the program's end, not at its last descendant's."""
    code = "import os\nif os.fork() == 0:\n  while True: pass\n"
    made = await bench.python(code, replace(LIMITS, wall_time=15.0), collect=["x"])
    assert made.verdict.status is Status.OK


async def test_fork_bomb_ends_at_once(bench: Bench) -> None:
    code = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass\n"
    limits = replace(LIMITS, wall_time=0.3)
    made = await bench.python(code, limits, capped=True, collect=["main.py"])
    assert made.verdict.status in (Status.WALL_TIME_EXCEEDED, Status.CPU_TIME_EXCEEDED)
    assert made.ended.facts.wall_time < 20


async def test_stopped_program_cannot_hold_its_end_up(bench: Bench) -> None:
    """A job that stops itself and its children is killed all the same."""
    code = "import os, signal\nos.fork()\nos.kill(os.getpid(), signal.SIGSTOP)"
    made = await bench.python(code, replace(LIMITS, wall_time=0.3), collect=["main.py"])
    assert made.verdict.status is Status.WALL_TIME_EXCEEDED
    assert made.brought[0].data == code.encode()


@pytest.mark.parametrize("collect", [[], ["x"]])
async def test_program_stopped_before_it_starts_is_cancelled(
    bench: Bench, collect: list[str]
) -> None:
    made = await bench.run(["/bin/echo", "ran"], stop=Stop.CANCELLED, collect=collect)
    assert made.verdict.status is Status.CANCELLED


async def test_cancel_ends_a_running_program(bench: Bench) -> None:
    built = await bench.build()
    sandbox = Sandbox(built)
    told = asyncio.Event()
    stdout, stderr = Output(100, lambda: None), Output(100, lambda: None)
    stdout.listener = lambda _: told.set()
    order = ExecOrder(
        argv=["/bin/sh", "-c", "echo on; exec sleep 60"], env={}, open_files=64, stack=MIB,
        file_size=MIB,
    )  # fmt: skip
    running = asyncio.create_task(
        sandbox.run(order, LIMITS, FixedInput(b""), stdout, stderr, quiesce=False)
    )
    await asyncio.wait_for(told.wait(), 10)
    sandbox.stop(Stop.CANCELLED)
    ended = await running
    assert ended.facts.stops == {Stop.CANCELLED} and not ended.init_alive
    sandbox.release()
    await asyncio.to_thread(bench.driver.destroy, built)


@pytest.mark.parametrize("begins", [True, False])
async def test_nothing_is_executed_before_the_start_is_known(bench: Bench, begins: bool) -> None:
    built = await bench.build()
    sandbox = Sandbox(built)
    stdout, stderr = Output(100, lambda: None), Output(100, lambda: None)
    order = ExecOrder(argv=["/bin/echo", "on"], env={}, open_files=64, stack=MIB, file_size=MIB)
    known: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    begun = time.monotonic()
    running = asyncio.create_task(
        sandbox.run(order, LIMITS, FixedInput(b""), stdout, stderr, quiesce=False, started=known)
    )
    await asyncio.sleep(0.3)
    assert not running.done() and stdout.kept == b""
    known.set_result(begins)
    if begins:
        ended = await running
        assert stdout.kept == b"on\n"
        assert ended.facts.wall_time < time.monotonic() - begun - 0.3, "it is not the job's time"
    else:
        with pytest.raises(NotStarted):
            await running
        stdout.drain()
        assert stdout.kept == b""
    sandbox.release()
    stderr.drain()
    await asyncio.to_thread(bench.driver.destroy, built)


async def test_what_failed_while_the_start_was_recorded_is_known_after_it(bench: Bench) -> None:
    built = await bench.build()
    sandbox = Sandbox(built)
    stdout, stderr = Output(100, lambda: None), Output(100, lambda: None)
    order = ExecOrder(
        argv=["/bin/true"], env={}, files=[("a", 0o644, b""), ("a/b", 0o644, b"")], open_files=64,
        stack=MIB, file_size=MIB,
    )  # fmt: skip

    async def known() -> bool:
        await asyncio.sleep(0.1)
        return True

    ended = await sandbox.run(
        order, LIMITS, FixedInput(b""), stdout, stderr, quiesce=False, started=known()
    )
    assert ended.facts.failed == Failed("files", errno.ENOTDIR, 1)
    sandbox.release()
    await asyncio.to_thread(bench.driver.destroy, built)


async def test_sandbox_that_died_while_the_start_was_recorded_is_the_hosts_fault(
    bench: Bench,
) -> None:
    built = await bench.build()
    sandbox = Sandbox(built)
    stdout, stderr = Output(100, lambda: None), Output(100, lambda: None)
    order = ExecOrder(argv=["/bin/echo", "on"], env={}, open_files=64, stack=MIB, file_size=MIB)

    async def known() -> bool:
        signal.pidfd_send_signal(built.native.pidfd, signal.SIGKILL)
        await asyncio.to_thread(select.select, [built.native.pidfd], [], [], 10)
        return True

    with pytest.raises(NativeFault, match="send_go"):
        await sandbox.run(
            order, LIMITS, FixedInput(b""), stdout, stderr, quiesce=False, started=known()
        )
    stdout.drain()
    stderr.drain()
    assert stdout.kept == b""
    sandbox.release()
    await asyncio.to_thread(bench.driver.destroy, built)


async def test_live_input_reaches_the_program_as_it_is_written(bench: Bench) -> None:
    stdin = LiveInput()

    async def feed() -> None:
        for line in (b"one\n", b"two\n"):
            await stdin.write(line)
        stdin.close()

    feeding = asyncio.create_task(feed())
    made = await bench.run(["/bin/cat"], stdin=stdin)
    await feeding
    assert made.stdout == b"one\ntwo\n"


async def test_command_that_does_not_exist_is_127(bench: Bench) -> None:
    made = await bench.run(["./nothing"])
    assert (made.verdict.status, made.verdict.exit_code) == (Status.NONZERO_EXIT, 127)


async def test_files_come_out_and_everything_else_says_why(bench: Bench) -> None:
    code = """
import os, socket
os.makedirs("d/e")
open("d/e/deep", "wb").write(b"deep")
open("empty", "w")
open("large", "wb").write(b"x" * 5000)
open("sparse", "wb").truncate(8 << 20)
open("secret", "w").write("s"); os.chmod("secret", 0)
os.symlink("/etc/passwd", "link")
os.symlink("d", "linked")
os.mkfifo("fifo")
socket.socket(socket.AF_UNIX).bind("socket")
"""
    asked = {
        "d/e/deep": None, "empty": None,
        "missing": errno.ENOENT, "d/missing/x": errno.ENOENT, "empty/x": errno.ENOTDIR,
        "d": errno.EISDIR, "fifo": errno.EISDIR, "socket": errno.ENXIO,
        "link": errno.ELOOP, "linked/e/deep": errno.ELOOP,
        "../etc/passwd": errno.EXDEV, "/etc/passwd": errno.EXDEV, "d/../../etc/passwd": errno.EXDEV,
        "sparse": errno.EFBIG, "large": errno.EFBIG, "secret": errno.EACCES,
    }  # fmt: skip
    made = await bench.python(code, collect=list(asked), budget=4_999)
    assert made.verdict.status is Status.OK, made.stderr
    assert {file.name: file.errno or None for file in made.brought} == asked
    assert (made.file("d/e/deep").data, made.file("empty").data) == (b"deep", b"")


async def test_budget_is_for_all_files_together(bench: Bench) -> None:
    code = "for n in 'abc': open(n, 'w').write(n * 40)"
    made = await bench.python(code, collect=["a", "b", "c"], budget=100)
    assert [(file.name, file.errno) for file in made.brought] == [
        ("a", 0), ("b", 0), ("c", errno.EFBIG),
    ]  # fmt: skip


async def test_glob_brings_every_match_of_one_directory(bench: Bench) -> None:
    code = """
import os
os.mkdir("d")
for name in ("A.class", "B.class", "C.txt", ".hidden.class", "d/D.class"):
    open(name, "w").write(name)
os.symlink("/etc/passwd", "evil.class")
"""
    made = await bench.python(code, collect=["*.class", "d/*.class", "*.none", "no/*"], glob=True)
    found = {file.name: file.data for file in made.brought if file.data is not None}
    assert found == {"A.class": b"A.class", "B.class": b"B.class", "d/D.class": b"d/D.class"}
    assert errno.ELOOP in {file.errno for file in made.brought}


async def test_glob_with_too_many_matches_is_cut_and_said(bench: Bench) -> None:
    code = "for i in range(400): open(f'{i}.o', 'w')"
    made = await bench.python(code, collect=["*.o"], glob=True)
    assert len([file for file in made.brought if file.data is not None]) == 256
    assert made.brought[-1].errno == errno.E2BIG


async def test_memory_filled_with_files_is_no_fault_of_ours(bench: Bench) -> None:
    """Nothing is left for init to open files with: it may be what the kernel ends."""
    code = f"""
data = b"x" * {MIB}
with open("fill", "wb", 0) as fill:
    for _ in range(60):
        fill.write(data)
"""
    limits = replace(LIMITS, memory=32 * MIB, disk=64 * MIB)
    made = await bench.python(code, limits, capped=True, collect=["main.py", "fill", "none"])
    assert made.verdict.status is Status.MEMORY_EXCEEDED
    assert len(made.brought) == 3


async def test_lost_init_gives_an_answer_for_every_file(bench: Bench) -> None:
    built = await bench.build()
    sandbox = Sandbox(built)
    stdout, stderr = Output(100, lambda: None), Output(100, lambda: None)
    order = ExecOrder(argv=["/bin/true"], env={}, open_files=64, stack=MIB, file_size=MIB)
    ended = await sandbox.run(order, LIMITS, FixedInput(b""), stdout, stderr, quiesce=True)
    assert ended.init_alive
    signal.pidfd_send_signal(built.native.pidfd, signal.SIGKILL)
    brought = await sandbox.bring_out(["a", "b"], glob=False, budget=100)
    assert [file.name for file in brought] == ["a", "b"]
    assert all(file.data is None and file.errno for file in brought)
    sandbox.release()
    await asyncio.to_thread(bench.driver.destroy, built)


async def test_init_that_was_killed_is_a_lost_sandbox(bench: Bench) -> None:
    built = await bench.build()
    sandbox = Sandbox(built)
    stdout, stderr = Output(100, lambda: None), Output(100, lambda: None)
    order = ExecOrder(argv=["/bin/sleep", "60"], env={}, open_files=64, stack=MIB, file_size=MIB)
    running = asyncio.create_task(
        sandbox.run(order, LIMITS, FixedInput(b""), stdout, stderr, quiesce=False)
    )
    await asyncio.sleep(0.05)
    signal.pidfd_send_signal(built.native.pidfd, signal.SIGKILL)
    ended = await running
    assert (ended.facts.wait_status, ended.facts.stops) == (None, frozenset())
    sandbox.release()
    await asyncio.to_thread(bench.driver.destroy, built)


async def test_many_sandboxes_leave_no_descriptor_behind(bench: Bench) -> None:
    counts = []
    for _ in range(3):
        await asyncio.gather(*(bench.run(["/bin/true"], collect=["x"]) for _ in range(8)))
        counts.append(len(os.listdir("/proc/self/fd")))
    # Up to eight network namespaces are kept for the next; sixteen sandboxes came after the first eight.
    assert counts[2] <= counts[0] + 8
