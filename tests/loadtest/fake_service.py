"""A server of the run API's wire shape that runs nothing: fixture of the load generator's tests.

It answers what `behaviour` says. As a script it stands for `sandboxd`: it understands
`--set name=value … serve`, listens where told, and ends on SIGTERM.
"""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Answer = tuple[int, dict[str, Any]]


def hello(request: dict[str, Any]) -> Answer:
    stdout = "1\n" if "language" in request else "hello\n"
    return 200, {"id": "run_1", "status": "ok", "exit_code": 0, "stdout": stdout, "stderr": ""}


@dataclass
class FakeService:
    answer: Callable[[dict[str, Any]], Answer] = hello
    delay: float = 0.0
    """Seconds before each answer."""
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is clear, nothing is answered."""
    hang_up: bool = False
    """Close instead of answering."""
    raw: bytes | None = None
    """Sent as it is, instead of an answer."""
    served: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    connections: int = 0
    port: int = 0

    def __post_init__(self) -> None:
        self.open.set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await _head(reader):
                await self._exchange(head, reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def _exchange(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        if head.startswith(b"GET /readyz"):
            return await _send(writer, 200, {"ready": True})
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self.open.wait()
            await asyncio.sleep(self.delay)
        finally:
            self.in_flight -= 1
        self.served += 1
        if self.hang_up:
            writer.close()
        elif self.raw is not None:
            writer.write(self.raw)
        else:
            await _send(writer, *self.answer(json.loads(body)))

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator["FakeService"]:
        server = await asyncio.start_server(self.handle, "127.0.0.1", port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


async def _send(writer: asyncio.StreamWriter, status: int, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    writer.write(
        b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
        % (status, len(body), body)
    )
    await writer.drain()


async def _serve(settings: dict[str, str]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with FakeService().listening(int(settings["gateway.listen"].rsplit(":", 1)[1])):
        await stop.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--broken"]:
        sys.exit("no kernel today")
    pairs = [word.partition("=") for word in sys.argv[1:] if "=" in word]
    asyncio.run(_serve({name: value for name, _, value in pairs}))
