"""A node's agent that speaks the protocol of sessions and runs nothing: each call has a canned answer."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from sandboxd.errors import NotFound, SandboxdError, SandboxEnded
from sandboxd.model import agent
from sandboxd.model.agent import Kind, Problem, frame, message
from sandboxd.model.moment import rfc3339
from sandboxd.model.session import (
    End,
    EndReason,
    Entry,
    FileInfo,
    FileList,
    FileType,
    Metrics,
    Process,
    ProcessResult,
    ProcessState,
    Sandbox,
    SandboxState,
    SessionLimits,
)
from sandboxd.model.session_metrics import MetricsHistory
from sandboxd.queue.sessions import Sessions

LIMITS = SessionLimits(memory=1 << 29, pids=128, cpus=1.0, disk=1 << 28, open_files=1024)
AT = "2026-01-01T00:00:00.000Z"
INFO = FileInfo(path="f", type=FileType.FILE, size=3, mode=0o644)
METRICS = Metrics(
    at=AT, cpu_time=0.1, memory=1, peak_memory=1, memory_limit=2, pids=1, pids_limit=2, disk=1,
    disk_limit=2, processes=0,
)  # fmt: skip


def process(name: str, **more: Any) -> Process:
    return Process(
        id=name, command=["x"], cwd="/work", started_at=AT, state=ProcessState.EXITED,
        exit_code=0, **more,
    )  # fmt: skip


class FakeSessions:
    """Set `act` to answer a call otherwise: it is given the call and the connection's writer, and what it
    returns is the REPLY."""

    def __init__(self, path: Path, directory: Sessions) -> None:
        self._path, self._directory = path, directory
        self.sandboxes: dict[str, Entry] = {}
        self.processes: set[str] = set()
        self.calls: list[agent.Call] = []
        self.received: list[bytes] = []
        """Payloads of DATA."""
        self.contexts: set[str] = set()
        """Processes that are kernels, and run."""
        self.kernel: Callable[[dict[str, Any]], list[bytes]] = speak
        """What a kernel says to a document."""
        self.servers: dict[int, int] = {}
        """Port of a sandbox -> port of this machine that stands for it."""
        self.connections = 0
        self.act: Callable[[agent.Call, asyncio.StreamWriter], Any] | None = None
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, self._path)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            with contextlib.suppress(ConnectionError):
                await self._serve(reader, writer)
        finally:
            self._serving.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = _Frames(reader)
        while (found := await frames.next()) is not None:
            kind, payload = found
            if kind is Kind.DATA:
                self.received.append(payload)
            if kind is not Kind.CALL:
                continue
            call = agent.decode_call(payload)
            self.calls.append(call)
            if isinstance(call, agent.WriteFile | agent.WriteFiles) and not await self._hear(
                frames
            ):
                return
            if isinstance(call, agent.Connect) and call.port in self.servers:
                await self._tunnel(call, frames, writer)
                return
            if isinstance(call, agent.Attach) and call.process in self.contexts:
                await self._attach(call, frames, writer)
                return
            try:
                writer.write(message(Kind.REPLY, await self._answer(call, writer)))
            except SandboxdError as error:
                writer.write(message(Kind.ERROR, Problem(code=error.code, detail=error.detail)))
            await writer.drain()

    async def _attach(
        self, call: agent.Attach, frames: "_Frames", writer: asyncio.StreamWriter
    ) -> None:
        running = process(call.process, tag="python")
        running = replace(running, state=ProcessState.RUNNING, exit_code=None)
        writer.write(message(Kind.EVENT, agent.Attached(running)))
        while (found := await frames.next()) is not None:
            self.received.append(found[1])
            for said in self.kernel(msgspec.json.decode(found[1])):
                writer.write(said)
            await writer.drain()

    async def _tunnel(
        self, call: agent.Connect, frames: "_Frames", writer: asyncio.StreamWriter
    ) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", self.servers[call.port])
        writer.write(message(Kind.EVENT, agent.Connected(call.port)))

        async def up() -> None:
            while (found := await frames.next()) is not None:
                outer.write(found[1])
                await outer.drain()

        uplink = asyncio.create_task(up())
        try:
            with contextlib.suppress(ConnectionError):
                while data := await inner.read(agent.MAX_DATA):
                    writer.write(frame(Kind.DATA, data))
                    await writer.drain()
            with contextlib.suppress(ConnectionError):
                writer.write(message(Kind.REPLY, agent.Closed(0, 0)))
        finally:
            uplink.cancel()
            outer.close()

    async def _hear(self, frames: "_Frames") -> bool:
        """A content to its end; False if the connection ended before."""
        while (found := await frames.next()) is not None:
            if found[0] is Kind.END:
                return True
            self.received.append(found[1])
        return False

    async def _answer(self, call: agent.Call, writer: asyncio.StreamWriter) -> object:
        if isinstance(call, agent.Create):
            return await self._create(call)
        entry = self.sandboxes.get(call.sandbox)
        if entry is None or entry.tenant != call.tenant:
            raise NotFound("no such sandbox")
        if entry.sandbox.state is SandboxState.ENDED:
            raise SandboxEnded("over")
        if isinstance(call, _OF_PROCESS) and call.process not in self.processes:
            raise NotFound("no such process")
        if self.act is not None:
            found = self.act(call, writer)
            found = await found if asyncio.iscoroutine(found) else found
            if found is not None:
                return found
        return await self._canned(call, entry, writer)

    async def _canned(self, call: agent.Call, entry: Entry, writer: asyncio.StreamWriter) -> object:
        changes = _CHANGES.get(type(call))
        if changes is not None:
            return await self._set(entry, **changes(call, entry.sandbox))
        if isinstance(call, agent.Run | agent.Exec | agent.Start):
            self.processes.add(call.id)
        if isinstance(call, agent.StartContext | agent.RestartContext):
            self.contexts.add(call.id)
            self.processes.add(call.id)
        if isinstance(call, agent.Signal):
            self.contexts.discard(call.process)
        if isinstance(call, agent.Processes):
            return agent.ProcessList([self._process(name) for name in sorted(self.processes)])
        if isinstance(call, agent.Inspect):
            return self._process(call.process)
        if isinstance(call, agent.Fork):
            return agent.Forked([replace(entry.sandbox, id=name) for name in call.children])
        for part in _STREAMS.get(type(call), lambda _: ())(call):
            writer.write(part)
        if isinstance(call, agent.Watch):
            await asyncio.sleep(0.02)
            raise SandboxEnded("it ended while it was watched")
        return _ANSWERS[type(call)](call) if type(call) in _ANSWERS else entry.sandbox

    def _process(self, name: str) -> Process:
        if name not in self.contexts:
            return process(name)
        return replace(process(name, tag="python"), state=ProcessState.RUNNING, exit_code=None)

    async def _create(self, call: agent.Create) -> Sandbox:
        if call.sandbox in self.sandboxes:
            return self.sandboxes[call.sandbox].sandbox
        request = call.request
        sandbox = Sandbox(
            id=call.sandbox, state=SandboxState.RUNNING, template=request.template or "session",
            image="host", key=request.key, metadata=request.metadata, limits=LIMITS,
            network=request.network, node="n1", isolation=["userns"], created_at=AT,
            expires_at=rfc3339(time.time() + request.timeout), timeout=request.timeout,
            on_timeout=request.on_timeout,
        )  # fmt: skip
        entry = Entry(tenant=call.tenant, address=f"unix:{self._path}", sandbox=sandbox)
        self.sandboxes[call.sandbox] = entry
        await self._directory.add(entry)
        return sandbox

    async def _set(self, entry: Entry, **fields: Any) -> Sandbox:
        sandbox = replace(entry.sandbox, **fields)
        changed = replace(entry, sandbox=sandbox)
        self.sandboxes[sandbox.id] = changed
        if sandbox.state is SandboxState.ENDED:
            await self._directory.finish(changed)
        else:
            await self._directory.update(changed)
        return sandbox


def speak(document: dict[str, Any]) -> list[bytes]:
    """A kernel to which every piece of code is the expression 1."""
    if document["op"] == "configure":
        return [event("configured")]
    if document["op"] != "run":
        return []
    run = document["run"]
    return [
        event("started", run=run, execution_count=1), event("result", run=run, main=True, text="1"),
        event("end", of=run, status="ok"),
    ]  # fmt: skip


def event(kind: str, **fields: Any) -> bytes:
    """One line of a kernel's stdout, as the agent sends it."""
    return frame(Kind.DATA, msgspec.json.encode({"type": kind, **fields}) + b"\n")


class _Frames:
    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._decoder = agent.Decoder()
        self._ready: list[tuple[Kind, bytes]] = []

    async def next(self) -> tuple[Kind, bytes] | None:
        while not self._ready:
            data = await self._reader.read(1 << 18)
            if not data:
                return None
            self._ready = list(self._decoder.feed(data))
        return self._ready.pop(0)


_OF_PROCESS = (agent.Attach, agent.Inspect, agent.Signal, agent.Resize, agent.Input)
_CHANGES: dict[type, Callable[[Any, Sandbox], dict[str, Any]]] = {
    agent.Kill: lambda _, __: {
        "state": SandboxState.ENDED, "end": End(reason=EndReason.KILLED, at=AT),
    },
    agent.Pause: lambda _, __: {"state": SandboxState.PAUSED},
    agent.Resume: lambda _, __: {"state": SandboxState.RUNNING},
    agent.Update: lambda call, box: {"metadata": call.metadata or box.metadata},
}  # fmt: skip
_STREAMS: dict[type, Callable[[Any], tuple[bytes, ...]]] = {
    agent.Exec: lambda call: (
        message(Kind.EVENT, process(call.id)), frame(Kind.DATA, b"out"), frame(Kind.STDERR, b"err"),
    ),
    agent.Attach: lambda call: (
        message(Kind.EVENT, agent.Attached(process(call.process))), frame(Kind.DATA, b"out"),
    ),
    agent.ReadFile: lambda call: (
        message(Kind.EVENT, INFO), frame(Kind.DATA, b"abc"[call.offset :][: call.length]),
    ),
    agent.Watch: lambda _: (message(Kind.EVENT, agent.Watching(1)),),
}  # fmt: skip


def _result(call: Any) -> ProcessResult:
    return ProcessResult(process=process(call.id), stdout=b"out", stderr=b"err")


def _of_process(call: Any) -> Process:
    return process(call.process)


def _info(_: Any) -> FileInfo:
    return INFO


_ANSWERS: dict[type, Callable[[Any], object]] = {
    agent.Metrics: lambda _: METRICS,
    agent.History: lambda _: MetricsHistory(interval=10.0, samples=[]),
    agent.WaitForPort: lambda call: agent.PortState(call.port, False),
    agent.Snapshot: lambda _: agent.Snapshotted("sha256:" + "0" * 64, 0),
    agent.Run: _result,
    agent.Exec: _result,
    agent.Start: lambda call: process(call.id),
    agent.StartContext: lambda call: process(call.id, tag=call.context.language),
    agent.RestartContext: lambda call: process(call.id, tag="python"),
    agent.Attach: lambda call: ProcessResult(process=process(call.process), stdout=b"", stderr=b""),
    agent.Signal: _of_process,
    agent.Resize: _of_process,
    agent.Input: _of_process,
    agent.ListFiles: lambda _: FileList(entries=[INFO]),
    agent.Remove: lambda _: agent.Removed(1),
    agent.WriteFiles: lambda call: agent.Written(len(call.files), 0),
    agent.WriteFile: _info,
    agent.Stat: _info,
    agent.MakeDirectory: _info,
    agent.Move: _info,
    agent.ChangeMode: _info,
    agent.ReadFile: lambda call: agent.Transferred(len(b"abc"[call.offset :][: call.length])),
}
