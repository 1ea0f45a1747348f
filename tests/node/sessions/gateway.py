"""What a gateway does with a node's agent, for tests: calls, streams, uploads."""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from sandboxd.errors import SandboxdError, known
from sandboxd.model import agent
from sandboxd.model.agent import Decoder, Kind, Problem, frame, message
from sandboxd.model.session import (
    FileInfo,
    FileList,
    Process,
    ProcessRequest,
    ProcessResult,
    Sandbox,
    SandboxRequest,
    SessionLimits,
)
from sandboxd.model.session import Metrics as SessionMetrics

TENANT = "acme"
_numbers = itertools.count(1)


def name(prefix: str) -> str:
    return f"{prefix}_" + "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(26))


def decode(payload: bytes, kind: Any) -> Any:
    return msgspec.msgpack.decode(payload, type=kind)


class Line:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._decoder = Decoder()
        self._frames: list[tuple[Kind, bytes]] = []

    async def send(self, *frames: bytes) -> None:
        self.writer.writelines(frames)
        await self.writer.drain()

    async def next(self) -> tuple[Kind, bytes]:
        """The next frame; an ERROR is raised. EOFError at the end."""
        while not self._frames:
            data = await asyncio.wait_for(self.reader.read(1 << 18), 30)
            if not data:
                raise EOFError
            self._frames += self._decoder.feed(data)
        kind, payload = self._frames.pop(0)
        if kind is Kind.ERROR:
            found = decode(payload, Problem)
            raise known(found.code)(found.detail, field=found.field)
        return kind, payload

    async def expect(self, kind: Kind, what: Any) -> Any:
        got, payload = await self.next()
        assert got is kind, (got, payload[:200])
        return decode(payload, what)

    async def call(self, call: agent.Call, answer: Any, *content: bytes) -> Any:
        """One call and its answer, with all of its input."""
        frames = [message(Kind.CALL, call), *(frame(Kind.DATA, piece) for piece in content)]
        if isinstance(call, agent.WriteFile | agent.WriteFiles):
            frames.append(frame(Kind.END))
        await self.send(*frames)
        return await self.expect(Kind.REPLY, answer)

    def close(self) -> None:
        self.writer.close()


class Box:
    """An open sandbox, as its tenant sees it."""

    def __init__(self, gateway: "Gateway", sandbox: Sandbox) -> None:
        self.gateway, self.sandbox = gateway, sandbox
        self.id = sandbox.id

    def fill(self, kind: Any, **fields: Any) -> Any:
        return kind(tenant=TENANT, sandbox=self.id, **fields)

    async def ask(self, kind: Any, answer: Any, *content: bytes, **fields: Any) -> Any:
        async with self.gateway.line() as line:
            return await line.call(self.fill(kind, **fields), answer, *content)

    async def run(self, *argv: str, input: bytes = b"", **fields: Any) -> ProcessResult:
        request = ProcessRequest(command=list(argv), **fields)
        result: ProcessResult = await self.ask(
            agent.Run, ProcessResult, id=name("prc"), process=request, input=input
        )
        return result

    async def sh(self, script: str, **fields: Any) -> bytes:
        result = await self.run("/bin/sh", "-c", script, **fields)
        assert result.process.exit_code == 0, result
        return result.stdout

    async def start(self, *argv: str, **fields: Any) -> Process:
        request = ProcessRequest(command=list(argv), **fields)
        process: Process = await self.ask(agent.Start, Process, id=name("prc"), process=request)
        return process

    async def write(self, path: str | bytes, *content: bytes, **fields: Any) -> FileInfo:
        info: FileInfo = await self.ask(
            agent.WriteFile, FileInfo, *content, path=raw(path), **fields
        )
        return info

    async def read(self, path: str | bytes, **fields: Any) -> bytes:
        async with self.gateway.line() as line:
            await line.send(message(Kind.CALL, self.fill(agent.ReadFile, path=raw(path), **fields)))
            await line.expect(Kind.EVENT, FileInfo)
            data = b""
            while True:
                kind, payload = await line.next()
                if kind is Kind.REPLY:
                    assert decode(payload, agent.Transferred).bytes == len(data)
                    return data
                data += payload

    async def page(self, path: str, **fields: Any) -> FileList:
        found: FileList = await self.ask(agent.ListFiles, FileList, path=raw(path), **fields)
        return found

    async def stat(self, path: str | bytes, **fields: Any) -> FileInfo:
        info: FileInfo = await self.ask(agent.Stat, FileInfo, path=raw(path), **fields)
        return info

    async def metrics(self) -> SessionMetrics:
        found: SessionMetrics = await self.ask(agent.Metrics, SessionMetrics)
        return found

    async def get(self) -> Sandbox:
        found: Sandbox = await self.ask(agent.Get, Sandbox)
        return found

    async def kill(self) -> Sandbox:
        found: Sandbox = await self.ask(agent.Kill, Sandbox)
        return found


def raw(path: str | bytes) -> bytes:
    return path.encode() if isinstance(path, str) else path


class Gateway:
    def __init__(self, path: Path) -> None:
        self._path = path

    @asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        line = Line(*await asyncio.open_unix_connection(self._path, limit=1 << 18))
        try:
            yield line
        finally:
            line.close()

    async def create(self, tenant: str = TENANT, **fields: Any) -> Box:
        request = SandboxRequest(**fields)
        call = agent.Create(
            tenant=tenant, sandbox=name("sbx"), request=request, limits=request.limits
        )
        async with self.line() as line:
            return Box(self, await line.call(call, Sandbox))


__all__ = ["Box", "Gateway", "Line", "SandboxdError", "SessionLimits"]
