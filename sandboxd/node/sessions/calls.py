"""What each call of the protocol does."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sandboxd.errors import SandboxEnded
from sandboxd.model import agent
from sandboxd.model.session import EndReason
from sandboxd.node.sessions.context_calls import CONTEXT_CALLS
from sandboxd.node.sessions.file_calls import FILE_CALLS
from sandboxd.node.sessions.link import Link
from sandboxd.node.sessions.port_calls import PORT_CALLS
from sandboxd.node.sessions.process_calls import PROCESS_CALLS
from sandboxd.node.sessions.registry import Registry
from sandboxd.node.sessions.session import Session
from sandboxd.node.sessions.waiting import to_its_end

Handler = Callable[[Session, Any, Link], Awaitable[object]]

_ASLEEP = (agent.Get, agent.Metrics, agent.History, agent.Processes, agent.Inspect, agent.Extend,
           agent.Update, agent.Pause, agent.Kill, agent.Snapshot, agent.Fork)  # fmt: skip
"""They do not wake a sandbox, and Get, Metrics and History are no use of it."""
_WITH_INPUT = (agent.Exec, agent.Attach, agent.WriteFile, agent.WriteFiles, agent.Connect)
_HANDLERS: dict[type, Handler] = {**PROCESS_CALLS, **FILE_CALLS, **PORT_CALLS, **CONTEXT_CALLS}


class Calls:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def serve(self, call: agent.Call, link: Link) -> object:
        """The answer. Raises SandboxdError, and Hangup if the gateway gave the call up."""
        if isinstance(call, _WITH_INPUT):
            return await self._serve(call, link)
        answer = asyncio.ensure_future(self._serve(call, link))
        gone = asyncio.ensure_future(link.gone())
        try:
            await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                await gone  # raises
            return answer.result()
        finally:
            for task in (answer, gone):
                task.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)

    async def _serve(self, call: agent.Call, link: Link) -> object:
        if isinstance(call, agent.Create):
            return await self._registry.create(call)
        try:
            session = self._registry.find(call.tenant, call.sandbox)
        except SandboxEnded:
            if isinstance(call, agent.Get | agent.Kill):
                return self._registry.ended(call.tenant, call.sandbox)
            raise
        if isinstance(call, agent.Get):
            return session.record()
        if isinstance(call, agent.Metrics):
            return await session.metrics()
        if isinstance(call, agent.History):
            return self._registry.history(session, call)
        with session.used():
            if not isinstance(call, _ASLEEP):
                await self._wake(session)
            return await self._use(session, call, link)

    async def _use(self, session: Session, call: agent.Call, link: Link) -> object:
        match call:
            case agent.Kill():
                session.kill(EndReason.KILLED)
                await asyncio.shield(session.over)
                return session.record()
            case agent.Pause():
                if await session.pause():
                    await self._registry.update(session, "paused")
            case agent.Resume():
                pass  # it has been woken
            case agent.Extend(timeout=timeout):
                session.extend(timeout)
                await self._registry.update(session, "extended")
            case agent.Update():
                await self._update(session, call)
            case agent.Snapshot():
                return await to_its_end(self._registry.snapshot(session, call))
            case agent.Fork():
                return await to_its_end(self._registry.fork(session, call))
            case _:
                return await _HANDLERS[type(call)](session, call, link)
        return session.record()

    async def _wake(self, session: Session) -> None:
        if session.life.paused and await session.resume():
            await self._registry.update(session, "resumed")

    async def _update(self, session: Session, call: agent.Update) -> None:
        changed = ""
        if call.network is not None and call.network != session.identity.network:
            await self._registry.change_network(session, call.network)
            changed = "limits_changed"
        if call.limits is not None:
            await session.limit(call.limits)
            changed = "limits_changed"
        if call.metadata is not None:
            session.metadata = dict(call.metadata)
        session.retime(call.idle_timeout, call.on_timeout)
        await self._registry.update(session, changed)
