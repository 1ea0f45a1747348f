"""Frames of a run's live stream between gateway and node agent: pure encode and decode.

A frame is one byte of kind, four bytes of big-endian payload length, the payload. The gateway opens
the stream with HELLO; then STDIN and STDIN_EOF go to the node, and STDOUT and STDERR come back, ended
by one EXIT or ERROR. What the run wrote before the stream was attached comes first.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum

from msgspec import Struct

MAX_PAYLOAD = 1 << 16
"""Bytes of one data frame; EXIT may be as large as MAX_RESULT."""
MAX_RESULT = 1 << 28

_HEAD = struct.Struct(">BI")


class Kind(IntEnum):
    HELLO = 1
    """JSON of `Hello`."""
    STDIN = 2
    STDIN_EOF = 3
    STDOUT = 4
    STDERR = 5
    EXIT = 6
    """JSON of the run's `Result`."""
    ERROR = 7
    """JSON of a problem: `{"code", "detail"}`."""


class Hello(Struct, frozen=True):
    run: str


class FrameError(ValueError):
    """The peer sent something that is not a frame."""


def encode(kind: Kind, payload: bytes = b"") -> bytes:
    return _HEAD.pack(kind, len(payload)) + payload


class Decoder:
    """Feed it bytes as they come; it yields whole frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        """Frames completed by `data`. Raises FrameError on an unknown kind or excessive length."""
        self._buffer += data
        while len(self._buffer) >= _HEAD.size:
            number, length = _HEAD.unpack_from(self._buffer)
            try:
                kind = Kind(number)
            except ValueError:
                raise FrameError(f"unknown frame kind {number}") from None
            if length > (MAX_RESULT if kind is Kind.EXIT else MAX_PAYLOAD):
                raise FrameError(f"frame of {length} bytes")
            end = _HEAD.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_HEAD.size : end])
            del self._buffer[:end]
            yield kind, payload
