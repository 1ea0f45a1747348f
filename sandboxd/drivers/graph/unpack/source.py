"""The uncompressed bytes of a layer: gzip, zstd or plain, counted, hashed, and bounded."""

import hashlib
import os
import zlib
from typing import Protocol

from sandboxd.drivers.graph.unpack.tar import Malformed

_CHUNK = 1 << 18
_WINDOW_MAX = 1 << 27
"""Bytes of zstd's look-back, which it allocates because the archive says so."""


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Source:
    def __init__(self, fd: int, limit: int) -> None:
        """Reads `fd` from where it is. More than `limit` bytes uncompressed are refused."""
        self._reader, self._limit = _opened(fd), limit
        self._hash = hashlib.sha256()
        self._chunk, self._at = b"", 0
        self.total = 0

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises Malformed where the stream ends before."""
        end = self._at + size
        if end <= len(self._chunk):
            data = self._chunk[self._at : end]
            self._at = end
            return data
        parts = []
        while size:
            part = self._some(size)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def copy(self, size: int, fd: int) -> None:
        """Write the next `size` bytes to `fd`."""
        while size:
            data = memoryview(self._some(size))
            size -= len(data)
            while data:
                data = data[os.write(fd, data) :]

    def finish(self) -> str:
        """Read what follows the archive (padding of blocks), and return the digest of all of it."""
        while self._fill():
            pass
        return f"sha256:{self._hash.hexdigest()}"

    def _some(self, size: int) -> bytes:
        if self._at == len(self._chunk) and not self._fill():
            raise Malformed("the archive is cut short")
        data = self._chunk[self._at : self._at + size]
        self._at += len(data)
        return data

    def _fill(self) -> bool:
        self._chunk, self._at = self._reader.read(_CHUNK), 0
        self._hash.update(self._chunk)
        self.total += len(self._chunk)
        if self.total > self._limit:
            raise Malformed(f"more than {self._limit} bytes uncompressed")
        return bool(self._chunk)


def _opened(fd: int) -> _Reader:
    magic = os.pread(fd, 4, 0)
    if magic[:2] == b"\x1f\x8b":
        return _Gzip(fd)
    if magic == b"\x28\xb5\x2f\xfd":
        return _Zstd(fd)
    return _Plain(fd)


class _Plain:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, size: int) -> bytes:
        return os.read(self._fd, size)


class _Gzip:
    """Members one after the other; zeros after the last are padding, anything else is refused."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._member = zlib.decompressobj(31)
        self._input = b""
        self._fresh = True

    def read(self, size: int) -> bytes:
        while True:
            if self._member.eof and not self._next_member():
                return b""
            if not self._input:
                self._input = os.read(self._fd, _CHUNK)
                if not self._input and self._fresh:
                    return b""
                if not self._input:
                    raise Malformed("the compressed stream is cut short")
            self._fresh = False
            try:
                data = self._member.decompress(self._input, size)
            except zlib.error as error:
                raise Malformed(f"not gzip: {error}") from None
            self._input = self._member.unconsumed_tail
            if data:
                return data

    def _next_member(self) -> bool:
        rest = self._member.unused_data
        while not rest.strip(b"\0"):
            rest = os.read(self._fd, _CHUNK)
            if not rest:
                return False
        self._input, self._member = rest.lstrip(b"\0"), zlib.decompressobj(31)
        return True


class _Zstd:
    """A frame that is cut short just ends: the archive in it then does not."""

    def __init__(self, fd: int) -> None:
        import zstandard  # not every layer needs it, and a child lives for one

        self._error = zstandard.ZstdError
        self._stream = zstandard.ZstdDecompressor(max_window_size=_WINDOW_MAX).stream_reader(
            os.fdopen(fd, "rb", buffering=0, closefd=False), read_across_frames=True
        )

    def read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except self._error as error:
            raise Malformed(f"not zstd: {error}") from None
