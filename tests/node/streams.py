"""The two ends of a live stream, played by a test: a program and a gateway."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from sandboxd.model import Result, Status
from sandboxd.model.frames import Decoder, Hello, Kind, encode
from sandboxd.node.live import Live
from sandboxd.node.stdio import LiveInput, Output

RUN = "run_1"
CAP = 4 << 20


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


class Program:
    """Plays the program of a live run: holds the child's ends of its pipes."""

    def __init__(self, *, interactive: bool) -> None:
        self.live = Live(interactive=interactive)
        self._outputs: list[Output] = []
        self._fds: list[int] = []
        self.stdin: int | None = None

    def start(self) -> None:
        stdin = LiveInput() if self.live.interactive else None
        self._outputs = [Output(CAP, lambda: None), Output(CAP, lambda: None)]
        self._fds = [os.dup(output.child_fd) for output in self._outputs]
        for fd in self._fds:
            os.set_blocking(fd, False)
        if stdin is not None:
            assert stdin.child_fd is not None
            self.stdin = os.dup(stdin.child_fd)
            os.set_blocking(self.stdin, False)
            stdin.start()
        self.live.open(stdin, *self._outputs)
        for output in self._outputs:
            output.start()

    async def write(self, data: bytes, stream: int = 0) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fds[stream], view) :]
            except BlockingIOError:
                await asyncio.sleep(0.001)

    async def read(self, size: int) -> bytes:
        """That many bytes of stdin; fewer at its end."""
        assert self.stdin is not None
        got = b""
        async with asyncio.timeout(20):
            while len(got) < size:
                try:
                    data = os.read(self.stdin, size - len(got))
                except BlockingIOError:
                    await asyncio.sleep(0.001)
                    continue
                if not data:
                    break
                got += data
        return got

    @property
    def kept(self) -> int:
        return len(self._outputs[0].kept)

    def end(self, status: Status = Status.OK) -> None:
        self.close()
        self.live.finish(Result(id=RUN, status=status))

    def close(self) -> None:
        for output in self._outputs:
            output.drain()
        for fd in self._fds:
            os.close(fd)
        self._fds = []
        if self.live.stdin is not None:
            self.live.stdin.close()
        if self.stdin is not None:
            os.close(self.stdin)
            self.stdin = None


class Client:
    """A gateway's end of one stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer, self._decoder = reader, writer, Decoder()
        self.got = {kind: bytearray() for kind in Kind}
        self.ended = False

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        self.writer.write(encode(kind, payload))

    async def more(self) -> None:
        """Read once."""
        data = await asyncio.wait_for(self._reader.read(65_536), 20)
        self.ended = not data
        for kind, payload in self._decoder.feed(data):
            self.got[kind] += payload

    async def have(self, kind: Kind, size: int) -> bytes:
        while len(self.got[kind]) < size:
            await self.more()
            assert not self.ended, self.got
        return bytes(self.got[kind])

    async def result(self) -> Result:
        while not self.ended:
            await self.more()
        return msgspec.json.decode(self.got[Kind.EXIT], type=Result)

    def close(self) -> None:
        self.writer.close()


class House:
    def __init__(self, path: Path, runs: dict[str, Live]) -> None:
        self.path, self.runs = path, runs
        self._clients: list[Client] = []
        self._programs: list[Program] = []

    def program(self, *, interactive: bool = False, start: bool = True) -> Program:
        program = Program(interactive=interactive)
        self._programs.append(program)
        self.runs[RUN] = program.live
        if start:
            program.start()
        return program

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_unix_connection(self.path))
        self._clients.append(client)
        return client

    async def follow(self, run: str = RUN) -> Client:
        client = await self.connect()
        client.send(Kind.HELLO, msgspec.json.encode(Hello(run)))
        return client

    async def leave(self) -> None:
        for client in self._clients:
            client.close()
        for program in self._programs:
            program.close()
