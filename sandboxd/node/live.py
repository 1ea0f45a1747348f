"""The live side of a run: what a stream may attach to, from before the program starts to its end."""

import asyncio
from collections.abc import AsyncIterator

from sandboxd.model import Result
from sandboxd.node.stdio import LiveInput, Output

CHUNK = 65_536
_AHEAD = 262_144
"""Bytes that an attached client may be behind before an interactive program is held up."""


class Feed:
    """One output stream as one client follows it, from its first byte."""

    def __init__(self, output: Output, interactive: bool) -> None:
        self._output, self._interactive = output, interactive
        self._sent = 0
        self._news = asyncio.Event()
        self._ended = False
        output.listener = self._more

    def _more(self, _: bytes) -> None:
        self._news.set()
        if self._interactive and len(self._output.kept) - self._sent > _AHEAD:
            self._output.pause()

    def end(self) -> None:
        self._ended = True
        self._news.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The stream's bytes, each chunk once the client is ready for it."""
        while True:
            self._news.clear()
            while self._sent < len(self._output.kept):
                chunk = bytes(self._output.kept[self._sent : self._sent + CHUNK])
                yield chunk
                self._sent += len(chunk)
                if len(self._output.kept) - self._sent <= _AHEAD:
                    self._output.resume()
            if self._ended:
                return
            await self._news.wait()

    def leave(self) -> None:
        """The client is gone: it holds the program up no more. The next one may be there already."""
        if self._output.listener == self._more:
            self._output.listener = None
            self._output.resume()


class Live:
    def __init__(self, *, interactive: bool) -> None:
        self.interactive = interactive
        self.stdin: LiveInput | None = None
        self._outputs: tuple[Output, Output] | None = None
        self._opened = asyncio.Event()
        self._feeds: list[Feed] = []
        self._seat: object = None
        self.result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def open(self, stdin: LiveInput | None, stdout: Output, stderr: Output) -> None:
        """The program is about to start."""
        self.stdin = stdin
        self._outputs = (stdout, stderr)
        self._opened.set()

    def finish(self, result: Result) -> None:
        if not self.result.done():
            self.result.set_result(result)
        self._opened.set()
        for feed in self._feeds:
            feed.end()

    def abandon(self) -> None:
        """This node will never know the result: clients are let go. Nothing once it has ended."""
        self.result.cancel()
        self._opened.set()
        for feed in self._feeds:
            feed.end()

    def sit(self) -> object:
        """A client's claim to stdin, until the next client's."""
        self._seat = object()
        return self._seat

    def sits(self, seat: object) -> bool:
        return self._seat is seat

    async def opened(self) -> None:
        """Until the program is about to start, or never will."""
        await self._opened.wait()

    async def attach(self) -> tuple[Feed, Feed] | None:
        """Feeds of stdout and stderr once there is a program; None if there never was one.

        A second client takes the place of the first.
        """
        await self._opened.wait()
        if self._outputs is None:
            return None
        for feed in self._feeds:
            feed.end()
        self._feeds = [Feed(output, self.interactive) for output in self._outputs]
        if self.result.done():
            for feed in self._feeds:
                feed.end()
        return self._feeds[0], self._feeds[1]
