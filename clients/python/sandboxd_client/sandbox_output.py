"""What comes of a command while it is followed: callbacks get text, the result gets what is kept."""

import codecs
from collections.abc import Callable
from typing import Any

from sandboxd_client.model import Output
from sandboxd_client.sandbox_core import exit_of, piece_of
from sandboxd_client.sandbox_model import CommandResult, ProcessInfo, command_result

Heard = Callable[[str], None]
"""Hears of output as it comes, in text; a character is never given in parts."""
_KEEP = 1 << 20


class Collector:
    """Feed it the documents of a stream, in order."""

    def __init__(
        self, on_stdout: Heard | None = None, on_stderr: Heard | None = None, keep: int = _KEEP
    ) -> None:
        self._kept = {"stdout": _Tail(keep, on_stdout), "stderr": _Tail(keep, on_stderr)}
        self.process: ProcessInfo | None = None
        """Set when the command has ended."""

    def feed(self, document: dict[str, Any]) -> Output | None:
        """The output that the document is of, or None for any other."""
        piece = piece_of(document)
        if piece is not None:
            self._kept[piece.stream].add(piece.data)
        elif (ended := exit_of(document)) is not None:
            self.process = ended
            for tail in self._kept.values():
                tail.finish()
        return piece

    def result(self) -> CommandResult:
        assert self.process is not None  # the last document has come
        out, err = self._kept["stdout"], self._kept["stderr"]
        return command_result(self.process, out.data, err.data, out.truncated, err.truncated)


class _Tail:
    """The newest bytes of a stream."""

    def __init__(self, keep: int, heard: Heard | None) -> None:
        self._keep, self._heard = keep, heard
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._parts: list[bytes] = []
        self._size = 0
        self.truncated = False

    def add(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > 2 * self._keep + 65_536:
            self._parts = [self._newest()]
            self._size = len(self._parts[0])
        self._say(self._decoder.decode(data))

    def finish(self) -> None:
        self._say(self._decoder.decode(b"", True))

    @property
    def data(self) -> bytes:
        return self._newest()

    def _newest(self) -> bytes:
        whole = b"".join(self._parts)
        if len(whole) <= self._keep:
            return whole
        self.truncated = True
        return whole[-self._keep :] if self._keep else b""

    def _say(self, text: str) -> None:
        if text and self._heard is not None:
            self._heard(text)
