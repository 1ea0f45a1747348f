"""A pipe from one sandbox to another.

It is the programs' own, and no byte of it passes through the node, unless somebody wants to see what
goes through. Then the node stands in the middle, reads a piece only when the one before has been taken,
and tells of it.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine

from sandboxd.node.stdio import LiveInput, PassedInput, PassedOutput

_PIECE = 65_536
Note = Callable[[bytes], None]


Ends = tuple[PassedInput | LiveInput, PassedOutput]
"""The end to read from and the end to write to."""


def pipe(copying: asyncio.TaskGroup, note: Note | None = None) -> Ends:
    """`note` is told every piece, from `copying`. Who writes what nobody reads any more has SIGPIPE."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    if note is None:
        return PassedInput(reading), PassedOutput(writing)
    return _relayed(copying, _copy, reading, writing, note)


def drained_pipe(copying: asyncio.TaskGroup, note: Note) -> Ends:
    """As `pipe`, but who writes never hears that nobody reads any more: the rest is told of alone."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    return _relayed(copying, _copy_and_drain, reading, writing, note)


def _relayed(
    copying: asyncio.TaskGroup,
    copy: Callable[[int, "_Relayed", Note], Coroutine[None, None, None]],
    reading: int,
    writing: int,
    note: Note,
) -> Ends:
    os.set_blocking(reading, False)
    sink = _Relayed()
    copying.create_task(copy(reading, sink, note))
    return sink, PassedOutput(writing)


class _Relayed(LiveInput):
    """stdin that is closed by who copies to it, at the end of what it copies from."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = asyncio.Event()

    def close(self) -> None:
        """By the sandbox, when its program has ended: nobody reads any more."""
        super().close()
        self.ended.set()


async def _copy(source: int, sink: _Relayed, note: Note) -> None:
    """All of `source` to `sink`, until either ends; then both are closed."""
    try:
        await _until_either_ends(source, sink, note)
    finally:
        os.close(source)
        sink.close()


async def _copy_and_drain(source: int, sink: _Relayed, note: Note) -> None:
    """As `_copy`, and then the rest of `source` to `note` alone."""
    try:
        await _until_either_ends(source, sink, note)
        sink.close()
        await _drain(source, note)
    finally:
        os.close(source)
        sink.close()


async def _until_either_ends(source: int, sink: _Relayed, note: Note) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(source, ready.set)
    gone = asyncio.ensure_future(sink.ended.wait())
    try:
        while not sink.ended.is_set():
            waiting = asyncio.ensure_future(ready.wait())
            await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            ready.clear()
            try:
                data = os.read(source, _PIECE)
            except BlockingIOError:
                continue
            if not data:
                break
            note(data)
            loop.remove_reader(source)
            if not await sink.write(data):
                break
            loop.add_reader(source, ready.set)
    finally:
        gone.cancel()
        loop.remove_reader(source)


async def _drain(source: int, note: Note) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(source, ready.set)
    try:
        while True:
            await ready.wait()
            ready.clear()
            try:
                data = os.read(source, _PIECE)
            except BlockingIOError:
                continue
            if not data:
                return
            note(data)
    finally:
        loop.remove_reader(source)
