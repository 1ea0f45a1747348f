"""Speaks the protocol of `model/agent.py` with the gateway: one connection, one call after another."""

import asyncio
import logging

import msgspec

from sandboxd.errors import InvalidRequest, SandboxdError, SystemFault
from sandboxd.model import agent
from sandboxd.model.agent import Kind, Problem, message
from sandboxd.node.sessions.calls import Calls
from sandboxd.node.sessions.link import Hangup, Link
from sandboxd.node.sessions.registry import Registry

log = logging.getLogger(__name__)


class Server:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._calls = Calls(registry)

    async def serve(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve a connection to its end; `first` has been read from it. Raises FrameError,
        ConnectionError."""
        link = Link(first, reader, writer)
        try:
            while (payload := await link.next_call()) is not None:
                await self._answer(link, payload)
        except Hangup:
            return
        finally:
            await link.close()

    async def _answer(self, link: Link, payload: bytes) -> None:
        try:
            call = agent.decode_call(payload)
        except msgspec.DecodeError as error:
            await link.send(message(Kind.ERROR, problem_of(InvalidRequest(str(error)))))
            return
        try:
            reply = await self._calls.serve(call, link)
        except SandboxdError as error:
            if isinstance(error, SystemFault):
                log.error("%s of %s: %s", type(call).__name__, call.sandbox, error)
            await link.finish(message(Kind.ERROR, problem_of(error)))
        except msgspec.ValidationError as error:
            await link.finish(message(Kind.ERROR, problem_of(InvalidRequest(str(error)))))
        else:
            await link.finish(message(Kind.REPLY, reply))


def problem_of(error: SandboxdError) -> Problem:
    return Problem(
        code=error.code, detail=error.detail, field=error.field, retry_after=error.retry_after
    )
