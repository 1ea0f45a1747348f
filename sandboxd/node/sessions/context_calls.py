"""Calls about contexts: interpreters that keep their state. Each is a process like any other."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from sandboxd.kernels.languages import start
from sandboxd.model import agent
from sandboxd.model.context import ContextRequest
from sandboxd.model.session import Process, ProcessRequest
from sandboxd.node.sessions.link import Link
from sandboxd.node.sessions.process import LiveProcess
from sandboxd.node.sessions.session import Session

_KEEP = 64 << 10
"""Bytes of a kernel's first words, for whoever waits until it is ready."""


def kernel_process(context: ContextRequest) -> ProcessRequest:
    return ProcessRequest(
        command=start(context.language).command,
        env=context.env,
        cwd=context.cwd,
        stdin=True,
        keep_output=_KEEP,
        tag=context.language,
    )


async def start_context(session: Session, call: agent.StartContext, link: Link) -> Process:
    return (await _start(session, call.id, call.context)).record()


async def restart_context(session: Session, call: agent.RestartContext, link: Link) -> Process:
    process = session.processes.get(call.id)
    request = process.request
    context = ContextRequest(language=request.tag or "", cwd=request.cwd, env=request.env)
    if process.running:
        session.processes.signal(call.id, signal.SIGKILL)
        await asyncio.shield(process.ended)
    session.processes.forget(call.id)
    return (await _start(session, call.id, context)).record()


async def _start(session: Session, name: str, context: ContextRequest) -> LiveProcess:
    program = start(context.language).program
    return await session.processes.start(name, kernel_process(context), None, first=program)


CONTEXT_CALLS: dict[type, Callable[[Session, Any, Link], Awaitable[object]]] = {
    agent.StartContext: start_context,
    agent.RestartContext: restart_context,
}
