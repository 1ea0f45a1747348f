"""Calls about processes: started, followed, attached to, signalled."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec

from sandboxd.errors import Conflict, Overload
from sandboxd.model import agent
from sandboxd.model.agent import MAX_DATA, Attached, Kind, Missed, ProcessList, frame, message
from sandboxd.model.session import Process, ProcessResult, PtySize
from sandboxd.node.sessions.link import Hangup, Link
from sandboxd.node.sessions.process import LiveProcess
from sandboxd.node.sessions.session import Session
from sandboxd.node.sessions.streams import Viewer

_size = msgspec.msgpack.Decoder(PtySize).decode
_number = msgspec.msgpack.Decoder(int).decode


async def run(session: Session, call: agent.Run, link: Link) -> ProcessResult:
    process = await session.processes.start(call.id, call.process, call.input)
    try:
        await asyncio.shield(process.ended)
    except asyncio.CancelledError:
        _end(session, process)
        raise
    return process.result()


async def start(session: Session, call: agent.Start, link: Link) -> Process:
    return (await session.processes.start(call.id, call.process, None)).record()


async def execute(session: Session, call: agent.Exec, link: Link) -> ProcessResult:
    process = await session.processes.start(call.id, call.process, None)
    viewer = process.streams.watch(history=True)
    if not process.running:
        viewer.end()
    try:
        await link.send(message(Kind.EVENT, process.record()))
        await _follow(session, process, viewer, link)
    except (Hangup, ConnectionError, asyncio.CancelledError):
        if call.on_disconnect == "kill":
            _end(session, process)
        raise
    finally:
        process.streams.leave(viewer)
    return process.result()


async def attach(session: Session, call: agent.Attach, link: Link) -> ProcessResult:
    process = session.processes.get(call.process)
    stdout, stderr = (output.ring for output in process.streams.outputs)
    viewer = process.streams.watch(history=call.history)
    if not process.running:
        viewer.end()
    try:
        first = Attached(
            process.record(),
            stdout.dropped if call.history else stdout.written,
            stderr.dropped if call.history else stderr.written,
        )
        await link.send(message(Kind.EVENT, first))
        await _follow(session, process, viewer, link)
    finally:
        process.streams.leave(viewer)
    return process.result(output=False)


def _end(session: Session, process: LiveProcess) -> None:
    if process.running:
        with suppress(Overload):
            session.processes.signal(process.id, signal.SIGKILL)


async def _follow(session: Session, process: LiveProcess, viewer: Viewer, link: Link) -> None:
    """Output to the client and its input to the process, until the process has ended."""
    down = asyncio.ensure_future(_downlink(viewer, link))
    up = asyncio.ensure_future(_uplink(session, process, link))
    try:
        await asyncio.wait([down, up], return_when=asyncio.FIRST_COMPLETED)
        if up.done() and not down.done():
            up.result()  # raises: it ends by a hang-up alone
        await down
    finally:
        for task in (down, up):
            task.cancel()
        await asyncio.gather(down, up, return_exceptions=True)


async def _downlink(viewer: Viewer, link: Link) -> None:
    while (item := await viewer.next()) is not None:
        if isinstance(item, Missed):
            await link.send(message(Kind.EVENT, item))
            continue
        kind, data = item
        for at in range(0, len(data), MAX_DATA):
            await link.send(frame(kind, data[at : at + MAX_DATA]))


async def _uplink(session: Session, process: LiveProcess, link: Link) -> None:
    """Raises Hangup at the client's end."""
    while True:
        received = await link.next()
        if received is None:
            raise Hangup
        kind, payload = received
        match kind:
            case Kind.DATA:
                await process.write(payload)
            case Kind.END:
                process.close_stdin()
            case Kind.RESIZE:
                with suppress(Conflict):
                    process.resize(_size(payload))
            case Kind.SIGNAL:
                with suppress(Conflict):
                    session.processes.signal(process.id, _checked(_number(payload)))
            case _:  # the next call, sent ahead: it waits for its turn
                link.put_back(received)
                await asyncio.get_running_loop().create_future()


def _checked(number: int) -> int:
    return number if 0 < number < 65 else signal.SIGTERM


async def processes(session: Session, call: agent.Processes, link: Link) -> ProcessList:
    return ProcessList([process.record() for process in session.processes.all()])


async def inspect(session: Session, call: agent.Inspect, link: Link) -> Process:
    return session.processes.get(call.process).record()


async def send_signal(session: Session, call: agent.Signal, link: Link) -> Process:
    session.processes.signal(call.process, call.signal)
    return session.processes.get(call.process).record()


async def resize(session: Session, call: agent.Resize, link: Link) -> Process:
    process = session.processes.get(call.process)
    process.resize(call.size)
    return process.record()


async def write(session: Session, call: agent.Input, link: Link) -> Process:
    process = session.processes.get(call.process)
    if call.data and not await process.write(call.data):
        raise Conflict("the process reads no input")
    if call.eof:
        process.close_stdin()
    return process.record()


PROCESS_CALLS: dict[type, Callable[[Session, Any, Link], Awaitable[object]]] = {
    agent.Run: run,
    agent.Start: start,
    agent.Exec: execute,
    agent.Attach: attach,
    agent.Processes: processes,
    agent.Inspect: inspect,
    agent.Signal: send_signal,
    agent.Resize: resize,
    agent.Input: write,
}
