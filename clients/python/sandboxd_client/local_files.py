"""Files of this machine on their way into a sandbox, and what comes out of one on its way to a file."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO, Literal

import httpx

CHUNK = 1 << 18
Progress = Callable[[int, int | None], None]
"""Bytes so far, and of all, where that is known."""


class _Upload:
    def __init__(self, source: IO[bytes] | bytes, progress: Progress | None) -> None:
        self._source, self._progress = source, progress
        self.size = len(source) if isinstance(source, bytes) else _size(source)
        """Bytes that it will be, or None."""
        begun = 0 if isinstance(source, bytes) or self.size is None else source.tell()
        self._sent = begun
        """What was sent before included."""
        self._whole = None if self.size is None else begun + self.size

    def _told(self, data: bytes) -> bytes:
        self._sent += len(data)
        if self._progress is not None:
            self._progress(self._sent, self._whole)
        return data

    def _pieces(self) -> Iterator[bytes]:
        """Of a source that is in memory."""
        assert isinstance(self._source, bytes)
        view = memoryview(self._source)
        for start in range(0, len(view), CHUNK):
            yield bytes(view[start : start + CHUNK])


class SyncUpload(_Upload, httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        if isinstance(self._source, bytes):
            for piece in self._pieces():
                yield self._told(piece)
            return
        while data := self._source.read(CHUNK):
            yield self._told(data)


class AsyncUpload(_Upload, httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        if isinstance(self._source, bytes):
            for piece in self._pieces():
                yield self._told(piece)
            return
        while data := await asyncio.to_thread(self._source.read, CHUNK):
            yield self._told(data)


def opened(path: str | Path, mode: Literal["rb", "wb", "ab"]) -> IO[bytes]:
    return Path(path).open(mode)


def write(file: IO[bytes], data: bytes) -> None:
    file.write(data)


async def awrite(file: IO[bytes], data: bytes) -> None:
    await asyncio.to_thread(file.write, data)


def _size(source: IO[bytes]) -> int | None:
    """What is left of a regular file."""
    try:
        return max(0, os.fstat(source.fileno()).st_size - source.tell())
    except (OSError, AttributeError, ValueError):
        return None
