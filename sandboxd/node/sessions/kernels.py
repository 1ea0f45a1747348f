"""Default contexts that wait: sandboxes of templates with `context`, their interpreter running already.

An interpreter takes a second of CPU to come up, so none is kept before a template is asked for the first
time, and none for long when nobody asks any more. Nobody's code has run in one when it is handed out.
"""

import asyncio
import logging
import os
import select
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from sandboxd.drivers.exec.base import Built
from sandboxd.errors import SandboxdError, SystemFault
from sandboxd.kernels import protocol
from sandboxd.kernels.languages import start
from sandboxd.model.agent import Create
from sandboxd.model.context import (
    Configured,
    ContextLanguage,
    ContextRequest,
    Refused,
    default_context_id,
)
from sandboxd.node.host import Host
from sandboxd.node.pool import Pool
from sandboxd.node.sessions.context_calls import kernel_process
from sandboxd.node.sessions.init_line import InitLine
from sandboxd.node.sessions.kept import KeptProcess
from sandboxd.node.sessions.orders import session_order
from sandboxd.node.sessions.process import LiveProcess
from sandboxd.node.sessions.session import Session
from sandboxd.node.warmth import network_shelf

log = logging.getLogger(__name__)

_READY = 30.0
"""Seconds for an interpreter to come up on a busy machine."""
_UNASKED = 900.0
"""Seconds after which none is kept any more."""
_AGAIN = 60.0
"""Seconds without another try after one that failed."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sandbox with its default context. Owned by whoever holds it, with the descriptors."""

    built: Built
    process: KeptProcess
    fds: list[int]

    def gone(self) -> bool:
        """Its interpreter has ended while it waited: nobody holds the other end of its stdin."""
        poll = select.poll()
        poll.register(self.fds[-1], 0)
        return bool(poll.poll(0))

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


@dataclass(slots=True)
class _Shelf:
    template: str
    language: ContextLanguage
    target: int
    open_files: int
    ready: deque[Prepared] = field(default_factory=deque)
    asked: float = 0.0
    preparing: asyncio.Task[None] | None = None
    failed: float = -_AGAIN
    timer: asyncio.TimerHandle | None = None


class Kernels:
    """One per node."""

    def __init__(self, host: Host, pool: Pool) -> None:
        self._host, self._pool = host, pool
        self._shelves: dict[str, _Shelf] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def take(self, call: Create) -> Prepared | None:
        """One that waits for just such a request, if there is one."""
        request = call.request
        if request.image is not None or request.volumes or request.data:
            return None
        shelf = self._shelf(request.template or "", request.network != "none")
        if shelf is None:
            return None
        self._ask(shelf)
        while shelf.ready:
            prepared = shelf.ready.popleft()
            if prepared.built.spec is self._pool.spec(shelf.template) and not prepared.gone():
                return prepared
            self._discard(prepared)
        return None

    def begin(self, session: Session) -> None:
        """Start the default context of a new sandbox whose template has one, in the background."""
        template = self._host.policies.templates.get(session.identity.template)
        if template is not None and template.context is not None:
            self._spawn(_start(session, template.context))

    def _shelf(self, template: str, networked: bool) -> _Shelf | None:
        name = network_shelf(template) if networked else template
        shelf = self._shelves.get(name)
        if shelf is None:
            policy = self._host.policies.templates.get(template)
            if policy is None or policy.context is None or not policy.pool_size:
                return None
            if networked and self._host.networks is None:
                return None
            shelf = self._shelves[name] = _Shelf(
                name, policy.context, policy.pool_size, self._host.open_files(template)
            )
        return shelf

    def _ask(self, shelf: _Shelf) -> None:
        shelf.asked = time.monotonic()
        if shelf.timer is None:
            loop = asyncio.get_running_loop()
            shelf.timer = loop.call_later(_UNASKED, self._look, shelf)
        # After the request that made room has had its turn.
        asyncio.get_running_loop().call_soon(self._refill, shelf)

    def _look(self, shelf: _Shelf) -> None:
        """Let go of those that nobody asks for."""
        left = shelf.asked + _UNASKED - time.monotonic()
        shelf.timer = None
        if left > 0:
            shelf.timer = asyncio.get_running_loop().call_later(left, self._look, shelf)
            return
        while shelf.ready:
            self._discard(shelf.ready.popleft())

    def _refill(self, shelf: _Shelf) -> None:
        if self._closing or shelf.preparing is not None or len(shelf.ready) >= shelf.target:
            return
        if time.monotonic() < shelf.failed + _AGAIN:
            return
        shelf.preparing = self._spawn(self._prepare(shelf))
        shelf.preparing.add_done_callback(lambda _: self._prepared(shelf))

    def _prepared(self, shelf: _Shelf) -> None:
        shelf.preparing = None
        self._refill(shelf)

    async def _prepare(self, shelf: _Shelf) -> None:
        """One at a time: it takes a core."""
        try:
            built = await self._pool.claim(shelf.template)
        except SandboxdError as error:
            shelf.failed = time.monotonic()
            log.warning("no sandbox to prepare a context in: %s", error)
            return
        try:
            async with asyncio.timeout(_READY):
                prepared = await _prepare(built, shelf)
        except (SandboxdError, TimeoutError) as error:
            shelf.failed = time.monotonic()
            log.warning("no context %s in template %s: %s", shelf.language, shelf.template, error)
            self._pool.discard(built)
        except BaseException:
            self._pool.discard(built)
            raise
        else:
            shelf.ready.append(prepared)

    def _discard(self, prepared: Prepared) -> None:
        prepared.close()
        self._pool.discard(prepared.built)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for shelf in self._shelves.values():
            if shelf.timer is not None:
                shelf.timer.cancel()
            while shelf.ready:
                self._discard(shelf.ready.popleft())


async def tell_environment(session: Session) -> None:
    """What a prepared context has to know of the sandbox that it is in now."""
    env = session.request.env
    for process in session.processes.all() if env else ():
        await process.write(protocol.environment(env))


async def _start(session: Session, language: ContextLanguage) -> None:
    name, request = default_context_id(language), ContextRequest(language=language)
    try:
        await session.processes.start(
            name, kernel_process(request), None, first=start(language).program
        )
    except SandboxdError as error:  # the first run tries again, and says why it cannot be
        log.debug("default context of %s: %s", session.identity.id, error)


async def _prepare(built: Built, shelf: _Shelf) -> Prepared:
    """Start the interpreter in a new sandbox, and wait until it listens. Raises SandboxdError."""
    language = shelf.language
    request = kernel_process(ContextRequest(language=language))
    process = LiveProcess(default_context_id(language), request, _never, _never)

    init = InitLine(built.native, process.on_exit)
    try:
        order = session_order(built.spec, {}, shelf.open_files, request)
        await process.start(init.first(), order, None, start(language).program)
        viewer = process.streams.watch(history=True)
        await process.write(protocol.configure(request.cwd))
        decoder = protocol.Decoder()
        while (item := await viewer.next()) is not None:
            for event in decoder.feed(item[1]) if isinstance(item, tuple) else ():
                if isinstance(event, Configured):
                    process.streams.leave(viewer)
                    kept, fds = process.kept()
                    return Prepared(built, kept, [os.dup(fd) for fd in fds])
                if isinstance(event, Refused):
                    raise SystemFault(event.detail)
        raise SystemFault("its interpreter ended")
    finally:
        init.close()
        process.close()


def _never() -> None:
    return
