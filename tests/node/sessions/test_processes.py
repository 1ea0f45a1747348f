"""Processes of an open sandbox: run, follow, attach, signal, type into a terminal."""

import asyncio
import signal
from typing import Any

import pytest

from sandboxd.errors import Conflict, InvalidRequest, NotFound
from sandboxd.model import agent
from sandboxd.model.agent import Attached, Kind, Missed, frame, message
from sandboxd.model.session import Process, ProcessRequest, ProcessResult, ProcessState, PtySize
from tests.node.sessions.gateway import Box, Gateway, Line, decode, name

pytestmark = pytest.mark.root


async def _exec(line: Line, box: Box, *argv: str, keep: str = "keep", **fields: Any) -> Process:
    request = ProcessRequest(command=list(argv), **fields)
    call = box.fill(agent.Exec, id=name("prc"), process=request, on_disconnect=keep)
    await line.send(message(Kind.CALL, call))
    process: Process = await line.expect(Kind.EVENT, Process)
    return process


async def _rest(line: Line) -> tuple[bytes, bytes, ProcessResult]:
    out, err = b"", b""
    while True:
        kind, payload = await line.next()
        if kind is Kind.DATA:
            out += payload
        elif kind is Kind.STDERR:
            err += payload
        elif kind is Kind.REPLY:
            return out, err, decode(payload, ProcessResult)


async def _until(line: Line, text: bytes) -> bytes:
    data = b""
    while text not in data:
        kind, payload = await line.next()
        assert kind is Kind.DATA, (kind, payload)
        data += payload
    return data


async def test_a_command_is_run_to_its_end(box: Box) -> None:
    result = await box.run(
        "/bin/sh", "-c", "cat; echo $A $HOME; pwd; echo e >&2; exit 3", input=b"in\n",
        env={"A": "1"}, cwd="/tmp",
    )  # fmt: skip
    assert result.stdout == b"in\n1 /work\n/tmp\n"
    assert result.stderr == b"e\n"
    process = result.process
    assert (process.exit_code, process.signal, process.state) == (3, None, ProcessState.EXITED)
    assert process.cpu_time > 0
    assert process.peak_memory > 100_000
    assert process.pid == 2


async def test_state_lives_on_between_commands(box: Box) -> None:
    await box.sh("echo kept > /tmp/x; sleep 60 >/dev/null 2>&1 & echo $! > pid")
    assert await box.sh("cat /tmp/x; kill -0 $(cat pid) && echo alive") == b"kept\nalive\n"


@pytest.mark.parametrize(
    ("argv", "fields", "error", "code"),
    [
        (["nothing-of-this-name"], {}, "not_found", 127),
        (["/etc/passwd"], {}, "denied", 126),
        (["true"], {"cwd": "/nowhere"}, "bad_cwd", 126),
    ],
)
async def test_what_cannot_be_started_says_why(
    box: Box, argv: list[str], fields: dict[str, Any], error: str, code: int
) -> None:
    process = (await box.run(*argv, **fields)).process
    assert (process.error, process.exit_code) == (error, code)
    assert await box.sh("echo on") == b"on\n"


async def test_streams_come_apart_and_as_they_are_written(gateway: Gateway, box: Box) -> None:
    async with gateway.line() as line:
        await _exec(line, box, "/bin/sh", "-c", "echo a; read x; echo b >&2; echo $x", stdin=True)
        assert await _until(line, b"a\n") == b"a\n"
        await line.send(frame(Kind.DATA, b"typed\n"))
        out, err, result = await _rest(line)
        assert (out, err) == (b"typed\n", b"b\n")
        assert result.process.exit_code == 0
        again = await line.call(box.fill(agent.Processes), agent.ProcessList)
        assert [process.state for process in again.processes] == [ProcessState.EXITED]


async def test_end_of_stdin_is_told(gateway: Gateway, box: Box) -> None:
    async with gateway.line() as line:
        await _exec(line, box, "wc", "-c", stdin=True)
        for _ in range(8):
            await line.send(frame(Kind.DATA, bytes(100_000)))
        await line.send(frame(Kind.END))
        assert (await _rest(line))[0] == b"800000\n"


async def test_without_stdin_there_is_none(box: Box) -> None:
    assert await box.sh("wc -c") == b"0\n"


async def test_background_process_is_attached_to_later_with_what_it_wrote(
    gateway: Gateway, box: Box
) -> None:
    process = await box.start("/bin/sh", "-c", "echo early; read x; echo late $x", stdin=True)
    assert process.state is ProcessState.RUNNING
    async with gateway.line() as first, gateway.line() as second:
        for line in (first, second):
            await line.send(message(Kind.CALL, box.fill(agent.Attach, process=process.id)))
            attached = await line.expect(Kind.EVENT, Attached)
            assert attached.stdout_dropped == 0
            assert await _until(line, b"early\n") == b"early\n"
        written = await box.ask(agent.Input, Process, process=process.id, data=b"now\n")
        assert written.id == process.id
        for line in (first, second):
            out, _, result = await _rest(line)
            assert out == b"late now\n"
            assert result.process.exit_code == 0
    async with gateway.line() as line:
        await line.send(message(Kind.CALL, box.fill(agent.Attach, process=process.id)))
        await line.expect(Kind.EVENT, Attached)
        assert (await _rest(line))[0] == b"early\nlate now\n"


async def test_old_output_is_dropped_and_said_to_be(gateway: Gateway, box: Box) -> None:
    result = await box.run("/bin/sh", "-c", "seq 1 100000", keep_output=1000)
    assert result.stdout_truncated and len(result.stdout) == 1000
    assert result.stdout.endswith(b"99999\n100000\n")
    assert result.process.stdout_bytes == 588895
    async with gateway.line() as line:
        call = box.fill(agent.Attach, process=result.process.id)
        await line.send(message(Kind.CALL, call))
        attached = await line.expect(Kind.EVENT, Attached)
        assert attached.stdout_dropped == 587895


async def test_a_process_goes_on_without_its_client_or_ends_with_it(
    gateway: Gateway, box: Box
) -> None:
    async with gateway.line() as line:
        kept = await _exec(line, box, "sleep", "60")
    async with gateway.line() as line:
        ended = await _exec(line, box, "sleep", "60", keep="kill")
    async with gateway.line() as line:
        await line.send(message(Kind.CALL, box.fill(agent.Attach, process=ended.id)))
        await line.expect(Kind.EVENT, Attached)
        assert (await _rest(line))[2].process.signal == "SIGKILL"
    assert (await box.ask(agent.Inspect, Process, process=kept.id)).state is ProcessState.RUNNING


async def test_a_run_that_is_given_up_is_killed(gateway: Gateway, box: Box) -> None:
    async with gateway.line() as line:
        request = ProcessRequest(command=["/bin/sh", "-c", "echo $$ > /tmp/pid; sleep 60"])
        call = box.fill(agent.Run, id="prc_x", process=request)
        await line.send(message(Kind.CALL, call))
        await box.sh("while ! test -s /tmp/pid; do sleep 0.01; done")
    await box.sh("while kill -0 $(cat /tmp/pid) 2>/dev/null; do sleep 0.01; done")
    assert (await box.ask(agent.Inspect, Process, process="prc_x")).signal == "SIGKILL"


async def test_signals_reach_the_group_and_only_the_living(box: Box) -> None:
    process = await box.start("/bin/sh", "-c", "trap 'exit 9' TERM; echo up; sleep 60 & wait")
    await _wait_output(box, process.id)
    await box.ask(agent.Signal, Process, process=process.id, signal=signal.SIGTERM)
    assert (await _ended(box, process.id)).exit_code == 9
    with pytest.raises(Conflict):
        await box.ask(agent.Signal, Process, process=process.id, signal=signal.SIGTERM)
    with pytest.raises(NotFound):
        await box.ask(agent.Signal, Process, process="prc_none", signal=signal.SIGTERM)


async def _wait_output(box: Box, process: str) -> None:
    while not (await box.ask(agent.Inspect, Process, process=process)).stdout_bytes:
        await asyncio.sleep(0.01)


async def _ended(box: Box, process: str) -> Process:
    while True:
        found: Process = await box.ask(agent.Inspect, Process, process=process)
        if found.state is ProcessState.EXITED:
            return found
        await asyncio.sleep(0.01)


async def test_a_deadline_kills_and_says_so(box: Box) -> None:
    process = (await box.run("sleep", "60", timeout=0.1)).process
    assert (process.signal, process.timed_out) == ("SIGKILL", True)
    assert 0.09 < process.wall_time < 5


async def test_a_child_left_behind_holds_no_answer_up_and_may_write_on(
    gateway: Gateway, box: Box
) -> None:
    result = await box.run("/bin/sh", "-c", "(sleep 1.5; echo later) & echo now")
    assert result.stdout == b"now\n"
    while (await box.ask(agent.Inspect, Process, process=result.process.id)).stdout_bytes != 10:
        await asyncio.sleep(0.02)


async def test_terminal_types_resizes_and_takes_viewers(gateway: Gateway, box: Box) -> None:
    async with gateway.line() as line, gateway.line() as other:
        script = "stty size; while read x; do stty size; echo got $x; done; echo bye"
        process = await _exec(line, box, "/bin/sh", "-c", script, pty=PtySize(rows=10, cols=20))
        await _until(line, b"10 20\r\n")
        await other.send(message(Kind.CALL, box.fill(agent.Attach, process=process.id)))
        await other.expect(Kind.EVENT, Attached)
        await _until(other, b"10 20\r\n")
        await line.send(message(Kind.RESIZE, PtySize(rows=30, cols=40)))
        await other.send(frame(Kind.DATA, b"hello\n"))
        for each in (line, other):
            text = await _until(each, b"got hello\r\n")
            assert b"30 40" in text
        await line.send(frame(Kind.DATA, b"\x04"))
        out, err, result = await _rest(line)
        assert b"bye" in out and err == b""
        assert result.process.pty and result.process.exit_code == 0


async def test_interrupt_is_typed(gateway: Gateway, box: Box) -> None:
    async with gateway.line() as line:
        await _exec(line, box, "/bin/sh", "-c", "echo up; exec sleep 60", pty=PtySize())
        await _until(line, b"up")
        await line.send(frame(Kind.DATA, b"\x03"))
        assert (await _rest(line))[2].process.signal == "SIGINT"


async def test_a_reader_that_stops_holds_the_process_up_while_it_is_alone(
    gateway: Gateway, box: Box
) -> None:
    async with gateway.line() as slow, gateway.line() as quick:
        process = await _exec(slow, box, "/bin/sh", "-c", "yes | head -c 30000000; echo end >&2")
        slow.reader._transport.pause_reading()  # type: ignore[attr-defined]
        before = -1
        while (now := await _written(box, process.id)) != before:
            before = now
            await asyncio.sleep(0.3)
        assert before < 20_000_000, "it was not waited for"
        await quick.send(message(Kind.CALL, box.fill(agent.Attach, process=process.id)))
        attached = await quick.expect(Kind.EVENT, Attached)
        out, err, result = await _rest(quick)
        assert attached.stdout_dropped + len(out) == 30_000_000
        assert err == b"end\n"
        assert result.process.exit_code == 0
        slow.reader._transport.resume_reading()  # type: ignore[attr-defined]
        seen, missed = 0, 0
        while True:
            kind, payload = await slow.next()
            if kind is Kind.REPLY:
                break
            if kind is Kind.EVENT:
                missed += decode(payload, Missed).stdout
            elif kind is Kind.DATA:
                seen += len(payload)
        assert missed > 0
        assert seen + missed == 30_000_000


async def _written(box: Box, process: str) -> int:
    found: Process = await box.ask(agent.Inspect, Process, process=process)
    return found.stdout_bytes


async def test_flood_on_stdin_that_nobody_reads_waits(gateway: Gateway, box: Box) -> None:
    async with gateway.line() as line:
        process = await _exec(line, box, "sleep", "60", stdin=True)
        sent = 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.7):
                while True:
                    await line.send(frame(Kind.DATA, bytes(65536)))
                    sent += 65536
        assert sent < 4 << 20, "it was buffered without end"
    assert (await box.ask(agent.Inspect, Process, process=process.id)).state == "running"
    assert await box.sh("echo on") == b"on\n"


async def test_an_id_is_one_process_and_a_nul_is_none(box: Box) -> None:
    request = ProcessRequest(command=["sleep", "0.2"])
    runs = [box.ask(agent.Run, ProcessResult, id="prc_same", process=request) for _ in range(4)]
    outcomes = await asyncio.gather(*runs, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == (
        ["Conflict"] * 3 + ["ProcessResult"]
    )
    with pytest.raises(InvalidRequest):
        await box.run("echo", "a\0b")
    assert await box.sh("echo on") == b"on\n"


async def test_many_commands_at_once(box: Box) -> None:
    results = await asyncio.gather(*(box.run("echo", str(i)) for i in range(16)))
    assert [result.stdout for result in results] == [f"{i}\n".encode() for i in range(16)]


async def test_a_sandbox_that_kills_all_it_can_stays_usable(box: Box) -> None:
    await box.write("x", b"1")
    process = await box.start("/bin/sh", "-c", "kill -9 -1")
    await _ended(box, process.id)
    assert await box.sh("echo on") == b"on\n"
    assert await box.read("x") == b"1"


async def test_a_fork_bomb_leaves_the_node_and_the_sandbox_answering(box: Box) -> None:
    bomb = (
        "import os, time\nwhile True:\n try:\n  if os.fork() == 0: time.sleep(60)\n"
        " except BlockingIOError: time.sleep(0.01)"
    )
    process = await box.start("/usr/bin/python3", "-IS", "-c", bomb)
    while (metrics := await box.metrics()).pids < metrics.pids_limit:
        await asyncio.sleep(0.02)
    assert metrics.pids <= metrics.pids_limit + 4
    await box.ask(agent.Signal, Process, process=process.id, signal=signal.SIGKILL)
    await _ended(box, process.id)
    assert await box.sh("echo on") == b"on\n"
