"""Sandboxes that live, on one connection a client: creation, commands, freezing, copies, transfers.

Transfers stand beside `cat` through a unix socket in the same run, with the same reader.
"""

import asyncio
import json
import os
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

from msgspec import Struct

from loadtest.http1 import Connection, ExchangeError, request
from loadtest.peers.http import Server

Say = Callable[[str], None]
MIB = 1 << 20
_TRUE = {"command": ["/bin/true"]}
_CHUNK = 256 << 10


class Plan(Struct, frozen=True, kw_only=True):
    samples: int = 100
    """Of each thing that is done one after the other."""
    copies: int = 10
    """Snapshots and forks."""
    burst: int = 100
    """Sandboxes asked for at once."""
    idle: int = 500
    """Sandboxes that are open and do nothing, beside one that streams."""
    size: int = 192 * MIB
    """Bytes of a transfer; a session's default file system holds 256 MiB."""


QUICK = Plan(samples=30, copies=4, burst=40, idle=100, size=64 * MIB)


class Row(Struct, frozen=True, kw_only=True):
    what: str
    unit: str
    p50: float
    p99: float | None
    samples: int
    goal: float | None
    """Of p50; at most, or at least where the unit is a ratio. None: it is there to compare with."""
    failed: int = 0
    note: str = ""

    @property
    def met(self) -> bool:
        if self.goal is None:
            return not self.failed
        reached = self.p50 >= self.goal if self.unit == "ratio" else self.p50 <= self.goal
        return reached and not self.failed


class Caller:
    """One client. Raises ExchangeError for an answer that is none, RuntimeError for a wrong one."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection = Connection(server.host, server.port)

    async def ask(self, method: str, path: str, body: Any = None, expect: int = 200) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        status, answer = await self._connection.exchange(
            self.head(method, path, len(data), "application/json") + data, self._server.timeout
        )
        if status != expect:
            raise RuntimeError(f"{method} {path}: {status} {answer[:300].decode()}")
        return json.loads(answer) if answer else None

    def head(self, method: str, path: str, size: int, kind: str) -> bytes:
        headers = [("Content-Type", kind)]
        if self._server.key:
            headers.append(("Authorization", f"Bearer {self._server.key}"))
        whole = request(method, path, f"{self._server.host}:{self._server.port}", b"", headers)
        return whole.replace(b"Content-Length: 0\r\n", b"Content-Length: %d\r\n" % size, 1)

    async def create(self, **body: Any) -> str:
        made = await self.ask("POST", "/v1/sandboxes", body, 201)
        return f"/v1/sandboxes/{made['id']}"

    async def run(self, sandbox: str) -> None:
        answer = await self.ask("POST", f"{sandbox}/exec", _TRUE)
        if answer["process"]["exit_code"] != 0:
            raise RuntimeError(f"a command failed: {answer}")

    def close(self) -> None:
        self._connection.close()


async def measure(server: Server, plan: Plan, say: Say) -> list[Row]:
    caller = Caller(server)
    try:
        rows = [*await _one_by_one(caller, plan), *await _copies(caller, plan)]
        say("sessions: one after the other done")
        rows += await _burst(server, caller, plan)
        say("sessions: many at once done")
        rows += await _transfers(server, caller, plan)
        return rows
    finally:
        caller.close()


async def _one_by_one(caller: Caller, plan: Plan) -> list[Row]:
    created, first, commands, frozen = [], [], [], []
    for _ in range(plan.samples // 2):
        began = time.perf_counter()
        sandbox = await caller.create()
        created.append(time.perf_counter() - began)
        await caller.run(sandbox)
        first.append(time.perf_counter() - began)
        await caller.ask("DELETE", sandbox)
        await asyncio.sleep(0.03)  # the pool builds the next one off this path
    sandbox = await caller.create()
    for _ in range(plan.samples):
        commands.append(await timed(caller.run(sandbox)))
    for _ in range(plan.samples // 2):
        frozen.append(await timed(caller.ask("POST", f"{sandbox}/pause")))
        frozen.append(await timed(caller.ask("POST", f"{sandbox}/resume")))
    await caller.ask("DELETE", sandbox)
    return [
        row("create, warm", created, 3.0),
        row("create to the first command's answer", first, 8.0),
        row("exec in an open sandbox", commands, 3.0),
        row("pause, resume", frozen, 2.0),
    ]


async def _copies(caller: Caller, plan: Plan) -> list[Row]:
    sandbox = await caller.create()
    forks = []
    for _ in range(plan.copies):
        began = time.perf_counter()
        made = await caller.ask("POST", f"{sandbox}/fork", {"count": 1}, 201)
        forks.append(time.perf_counter() - began)
        await caller.ask("DELETE", f"/v1/sandboxes/{made['sandboxes'][0]['id']}")
        await asyncio.sleep(0.03)
    await caller.ask("DELETE", sandbox)
    return [row("fork of an untouched file system", forks, 10.0)]


async def _burst(server: Server, caller: Caller, plan: Plan) -> list[Row]:
    """So many at once, each with its own client, until each has answered a command."""
    clients = [Caller(server) for _ in range(plan.burst)]
    opened: list[str] = []
    failed = 0

    async def one(client: Caller) -> None:
        nonlocal failed
        try:
            sandbox = await client.create()
            opened.append(sandbox)
            await client.run(sandbox)
        except (ExchangeError, RuntimeError):
            failed += 1

    try:
        began = time.perf_counter()
        await asyncio.gather(*map(one, clients))
        took = time.perf_counter() - began
    finally:
        for client in clients:
            client.close()
        for sandbox in opened:
            await caller.ask("DELETE", sandbox)
    return [
        Row(
            what=f"{plan.burst} created at once, all having answered a command", unit="ms",
            p50=took * 1e3, p99=None, samples=1, goal=5.0 * plan.burst, failed=failed,
        )
    ]  # fmt: skip


async def _transfers(server: Server, caller: Caller, plan: Plan) -> list[Row]:
    sandbox = await caller.create()
    path = f"{sandbox}/files/content?path=big"
    try:
        beside, up, down = [], [], []
        for _ in range(3):
            beside.append(await asyncio.to_thread(_cat, plan.size))
            up.append(await asyncio.to_thread(_upload, server, caller, path, plan.size))
            down.append(await asyncio.to_thread(_download, server, caller, path, plan.size))
            # A file is replaced when the new one is whole: there is no room for both.
            await caller.ask("DELETE", f"{sandbox}/files?path=big")
    finally:
        await caller.ask("DELETE", sandbox)
    rows = []
    for what, speeds in (("upload", up), ("download", down)):
        ratios = [ours / theirs for ours, theirs in zip(speeds, beside, strict=True)]
        rows.append(
            Row(
                what=f"{what} of {plan.size // MIB} MiB, to `cat` through a socket", unit="ratio",
                p50=median(ratios), p99=None, samples=len(ratios), goal=0.6,
                note=f"{median(speeds) / 1e6:.0f} MB/s, cat {median(beside) / 1e6:.0f} MB/s",
            )
        )  # fmt: skip
    return rows


def _upload(server: Server, caller: Caller, path: str, size: int) -> float:
    """Bytes a second. Blocks, as do those below."""
    data = memoryview(os.urandom(MIB))
    with socket.create_connection((server.host, server.port), server.timeout) as line:
        began = time.perf_counter()
        line.sendall(caller.head("PUT", path, size, "application/octet-stream"))
        for at in range(0, size, MIB):
            line.sendall(data[: min(MIB, size - at)])
        answer = line.recv(65_536)
        took = time.perf_counter() - began
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer[:300].decode("latin-1"))
    return size / took


def _download(server: Server, caller: Caller, path: str, size: int) -> float:
    with socket.create_connection((server.host, server.port), server.timeout) as line:
        began = time.perf_counter()
        line.sendall(caller.head("GET", path, 0, "application/json"))
        got = _drain(line, size)
        took = time.perf_counter() - began
    if got < size:
        raise RuntimeError(f"{got} of {size} bytes came")
    return size / took


def _drain(line: socket.socket, size: int) -> int:
    buffer = bytearray(_CHUNK)
    got = 0
    while got < size and (count := line.recv_into(buffer)):
        got += count
    return got


def _cat(size: int) -> float:
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryFile(dir="/dev/shm") as file, ours:
        file.truncate(size)
        for at in range(0, size, MIB):
            os.pwrite(file.fileno(), bytes(min(MIB, size - at)), at)
        began = time.perf_counter()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        pid = os.posix_spawn(
            "/bin/cat", ["cat"], {},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, file.fileno(), 0), (os.POSIX_SPAWN_DUP2, theirs.fileno(), 1),
            ],
        )  # fmt: skip
        theirs.close()
        _drain(ours, size)
        took = time.perf_counter() - began
        os.waitpid(pid, 0)
    return size / took


async def timed(work: Awaitable[Any]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


def row(what: str, seconds: list[float], goal: float | None) -> Row:
    found = sorted(seconds)
    return Row(
        what=what, unit="ms", p50=median(found) * 1e3,
        p99=found[min(len(found) - 1, int(len(found) * 0.99))] * 1e3,
        samples=len(found), goal=goal,
    )  # fmt: skip


def markdown(rows: list[Row], title: str = "sandboxes that live") -> list[str]:
    lines = [
        f"| {title} | p50 | p99 | goal | n | |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for each in rows:
        ninety = "" if each.p99 is None else f"{each.p99:.2f} {each.unit}"
        sign = "≥" if each.unit == "ratio" else "≤"
        goal = "" if each.goal is None else f"{sign} {each.goal:g} {each.unit}"
        told = each.note + (f" {each.failed} failed" if each.failed else "")
        told += "" if each.met else " **missed**"
        lines.append(
            f"| {each.what} | {each.p50:.2f} {each.unit} | {ninety} | {goal} | {each.samples} "
            f"| {told.strip()} |"
        )
    return lines
