"""Open sandboxes and their processes outlive `kill -9` of the node, or are told to be lost."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sandboxd.errors import SandboxdError
from sandboxd.model import agent
from sandboxd.model.agent import Attached, Kind, frame, message
from sandboxd.model.session import (
    EndReason,
    Process,
    ProcessResult,
    ProcessState,
    PtySize,
    Sandbox,
    SandboxState,
    SessionLimits,
)
from sandboxd.queue.sessions import Sessions
from sandboxd.settings import load
from tests.node.sessions.gateway import TENANT, Box, Gateway, Line, decode
from tests.service.instance import Service, running

pytestmark = [pytest.mark.root, pytest.mark.service, pytest.mark.slow]

BACK_WITHIN = 45.0


@pytest.fixture
def own() -> Iterator[Service]:
    with running("node.heartbeat=0.5") as service:
        yield service


def _gateway(service: Service) -> Gateway:
    return Gateway(Path(service.run_dir) / service.instance / "node" / "agent.sock")


@asynccontextmanager
async def _directory(service: Service) -> AsyncIterator[Sessions]:
    flags = [f"instance={service.instance}", f"run_dir={service.run_dir}"]
    sessions = Sessions(load(environ={}, flags=flags))
    try:
        yield sessions
    finally:
        await sessions.close()


async def _kill_node(service: Service) -> None:
    before = await asyncio.to_thread(service.role, "node")
    assert before is not None
    os.kill(before, signal.SIGKILL)


async def _back(box: Box) -> Sandbox:
    """Once the node answers for this sandbox again."""
    end = time.monotonic() + BACK_WITHIN
    while True:
        try:
            return await box.get()
        except (OSError, EOFError, SandboxdError):
            assert time.monotonic() < end, "the node did not come back with it"
            await asyncio.sleep(0.1)


async def _attach(line: Line, box: Box, process: Process) -> Attached:
    await line.send(message(Kind.CALL, box.fill(agent.Attach, process=process.id)))
    attached: Attached = await line.expect(Kind.EVENT, Attached)
    return attached


async def _until(line: Line, text: bytes) -> bytes:
    data = b""
    while text not in data:
        kind, payload = await line.next()
        assert kind is Kind.DATA, (kind, payload)
        data += payload
    return data


async def test_processes_go_on_and_clients_attach_again(own: Service) -> None:
    gateway = _gateway(own)
    box = await gateway.create(
        metadata={"a": "b"}, env={"E": "kept"}, limits=SessionLimits(memory=300 << 20)
    )
    paused = await gateway.create()
    await paused.sh("echo asleep > f")
    await paused.ask(agent.Pause, Sandbox)
    await box.write("f", b"file")
    script = "echo early; read x; echo $x $E; read y; echo $y; exit 7"
    reading = await box.start("/bin/sh", "-c", script, stdin=True)
    typed = await box.start("/bin/sh", pty=PtySize(), tag="shell")
    quick = await box.start("/bin/sh", "-c", "sleep 1.5; echo done; exit 3")
    done = await box.run("true")
    await asyncio.sleep(0.2)
    await _kill_node(own)
    record = await _back(box)
    assert (record.state, record.metadata) == (SandboxState.RUNNING, {"a": "b"})
    assert (record.created_at, record.limits) == (box.sandbox.created_at, box.sandbox.limits)
    assert abs(_seconds(record.expires_at) - _seconds(box.sandbox.expires_at)) < 2
    assert await box.read("f") == b"file"
    assert await box.sh("echo new $E") == b"new kept\n"
    listed = await box.ask(agent.Processes, agent.ProcessList)
    running_now = {each.id for each in listed.processes if each.state is ProcessState.RUNNING}
    assert {reading.id, typed.id} <= running_now
    assert done.process.id not in running_now

    async with gateway.line() as line:
        attached = await _attach(line, box, reading)
        assert attached.stdout_dropped >= 1, "what the dead node has read is gone, and that is said"
        await line.send(frame(Kind.DATA, b"one\n"))
        assert await _until(line, b"one kept\n")
        await _kill_node(own)
    await _back(box)
    async with gateway.line() as line:
        await _attach(line, box, reading)
        await line.send(frame(Kind.DATA, b"two\n"))
        await _until(line, b"two\n")
        kind, payload = await line.next()
        assert kind is Kind.REPLY
        ended = decode(payload, ProcessResult)
        assert ended.process.exit_code == 7
        assert ended.stdout_truncated
    async with gateway.line() as line:
        await _attach(line, box, typed)
        await line.send(frame(Kind.DATA, b"echo $((6*7)); tty\n"))
        await _until(line, b"42\r\n/dev/pts/0\r\n")
    while (await box.ask(agent.Inspect, Process, process=quick.id)).state == "running":
        await asyncio.sleep(0.05)
    late = await box.ask(agent.Inspect, Process, process=quick.id)
    assert late.exit_code == 3

    assert (await _back(paused)).state is SandboxState.PAUSED
    assert await paused.read("f") == b"asleep\n"
    assert (await box.kill()).state is SandboxState.ENDED
    assert (await paused.kill()).state is SandboxState.ENDED


def _seconds(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


async def test_what_ends_while_no_node_is_there_is_told_when_one_is(own: Service) -> None:
    gateway = _gateway(own)
    box = await gateway.create()
    suicide = await box.start("/bin/sh", "-c", "sleep 0.4; exit 5")
    await _kill_node(own)
    await asyncio.sleep(0.5)
    await _back(box)
    while (await box.ask(agent.Inspect, Process, process=suicide.id)).state == "running":
        await asyncio.sleep(0.05)
    assert (await box.ask(agent.Inspect, Process, process=suicide.id)).exit_code == 5


async def test_without_a_keeper_sandboxes_are_lost_and_that_is_said(own: Service) -> None:
    gateway = _gateway(own)
    box = await gateway.create()
    keeper = await asyncio.to_thread(_keeper, own)
    os.kill(keeper, signal.SIGKILL)
    await _kill_node(own)
    async with _directory(own) as directory:
        end = time.monotonic() + BACK_WITHIN
        while True:
            entry = await directory.find(TENANT, box.id)
            assert entry is not None
            if entry.sandbox.end is not None:
                break
            assert time.monotonic() < end
            await asyncio.sleep(0.1)
    assert entry.sandbox.end.reason is EndReason.NODE_LOST


async def test_a_keeper_that_is_killed_is_told_everything_again(own: Service) -> None:
    gateway = _gateway(own)
    box = await gateway.create()
    reading = await box.start("/bin/sh", "-c", "read x; echo $x", stdin=True)
    first = await asyncio.to_thread(_keeper, own)
    os.kill(first, signal.SIGKILL)
    while (again := await asyncio.to_thread(_keeper, own)) in (first, 0):
        await asyncio.sleep(0.05)
    while len(os.listdir(f"/proc/{again}/fd")) < 16:
        await asyncio.sleep(0.05)
    await _kill_node(own)
    await _back(box)
    async with gateway.line() as line:
        await _attach(line, box, reading)
        await line.send(frame(Kind.DATA, b"alive\n"))
        await _until(line, b"alive\n")


def _keeper(service: Service) -> int:
    """pid of the service's keeper, or 0."""
    from tests.service import host

    for pid in host.descendants(service.pid):
        if any(word.endswith("keeper.sock") for word in host.argv(pid) or []):
            return pid
    return 0
