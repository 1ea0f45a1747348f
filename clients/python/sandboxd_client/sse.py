"""Server-sent events from bytes: the parts of the standard that matter to a run's events."""

from collections.abc import Iterator
from dataclasses import dataclass

from sandboxd_client.errors import ServerError

MAX_LINE = 1 << 20
"""Bytes of a line that is not ended yet; more means that the peer does not speak this."""


@dataclass(frozen=True, slots=True)
class Message:
    id: str | None
    """None where the message does not carry its own."""
    event: str
    data: str


class Decoder:
    """Feed it bytes as they come; it yields whole messages. A new connection needs a new one."""

    def __init__(self) -> None:
        self._buffer = b""
        self._id: str | None = None
        self._event = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """Messages completed by `chunk`. Raises ServerError on a line that is too long."""
        self._buffer += chunk
        *lines, self._buffer = self._buffer.split(b"\n")
        if len(self._buffer) > MAX_LINE:
            raise ServerError("an event is too long", code="bad_answer")
        for line in lines:
            message = self._line(line.rstrip(b"\r").decode(errors="replace"))
            if message is not None:
                yield message

    def _line(self, line: str) -> Message | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None

    def _dispatch(self) -> Message | None:
        message = Message(self._id, self._event or "message", "\n".join(self._data))
        empty = not self._data
        self._id, self._event, self._data = None, "", []
        return None if empty else message
