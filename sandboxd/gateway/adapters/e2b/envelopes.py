"""The frames of Connect's streams: a byte of flags, four of big-endian length, a JSON message. Pure."""

import struct

from sandboxd.errors import MalformedBody

_HEAD = struct.Struct(">BI")
COMPRESSED, LAST = 1, 2
MESSAGE_MAX = 4 << 20
"""Bytes of one message from a client."""


def envelope(message: bytes, flags: int = 0) -> bytes:
    return _HEAD.pack(flags, len(message)) + message


class Envelopes:
    """Feed it bytes as they come; it gives whole messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Raises MalformedBody for a message that is compressed, or too long."""
        self._buffer += data
        messages: list[bytes] = []
        at = 0
        while len(self._buffer) - at >= _HEAD.size:
            flags, length = _HEAD.unpack_from(self._buffer, at)
            if flags & COMPRESSED:
                raise MalformedBody("messages are not taken compressed")
            if length > MESSAGE_MAX:
                raise MalformedBody(f"a message has more than {MESSAGE_MAX} bytes")
            end = at + _HEAD.size + length
            if len(self._buffer) < end:
                break
            if not flags & LAST:
                messages.append(bytes(self._buffer[at + _HEAD.size : end]))
            at = end
        del self._buffer[:at]
        return messages

    def finish(self) -> None:
        """The body is over. Raises MalformedBody if it broke off within a message."""
        if self._buffer:
            raise MalformedBody("the body ends within a message")
