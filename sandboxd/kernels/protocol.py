"""What gateway and kernel say to each other: a JSON document a line. Pure.

    gateway                                      kernel
    {"op": "configure", "cwd"}              ──▶  configured | refused
    {"op": "environment", "env"}            ──▶  nothing
    {"op": "run", "run", "code", "env"}     ──▶  started … end, each with that `run`
    {"op": "interrupt", "run"}              ──▶  the run ends soon, if it can
    {"op": "ask", "run"}                    ──▶  end (`lost`) if the run has ended

Runs are done one after the other. What comes back is hostile: lines that are no event are passed over,
and one that is too long is never held.
"""

import msgspec

from sandboxd.model.context import KernelEvent, Omitted

LINE_MAX = 16 << 20
"""Bytes of one event; kernels keep theirs below 12 MiB."""
_decode = msgspec.json.Decoder(KernelEvent).decode
_encode = msgspec.json.Encoder().encode


def configure(cwd: str) -> bytes:
    return _line({"op": "configure", "cwd": cwd})


def environment(env: dict[str, str]) -> bytes:
    return _line({"op": "environment", "env": env})


def run(name: str, code: str, env: dict[str, str]) -> bytes:
    return _line({"op": "run", "run": name, "code": code, "env": env})


def interrupt(name: str | None) -> bytes:
    """Of one run, or of the one that is under way."""
    return _line({"op": "interrupt", "run": name})


def ask(name: str) -> bytes:
    return _line({"op": "ask", "run": name})


def _line(document: dict[str, object]) -> bytes:
    return _encode(document) + b"\n"


class Decoder:
    """Feed it bytes as they come; it gives whole events. It begins in the middle of a line, perhaps."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.held = 0
        """Bytes of a line whose end is yet to come."""
        self._skipping = False

    def resync(self) -> None:
        """Something is missing between what was fed and what will be."""
        self._parts.clear()
        self.held = 0
        self._skipping = True

    def feed(self, data: bytes) -> list[KernelEvent]:
        events: list[KernelEvent] = []
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._add(line, events)
            self._finish(events)
        if rest:
            self._add(rest, events)
        return events

    def _add(self, piece: bytes, events: list[KernelEvent]) -> None:
        if self._skipping:
            return
        if self.held + len(piece) > LINE_MAX:
            self.resync()
            events.append(Omitted())
            return
        self._parts.append(piece)
        self.held += len(piece)

    def _finish(self, events: list[KernelEvent]) -> None:
        line = b"".join(self._parts)
        skipped, self._skipping = self._skipping, False
        self._parts.clear()
        self.held = 0
        if skipped:
            return
        try:
            events.append(_decode(line))
        except (msgspec.DecodeError, RecursionError):  # what a program wrote there by itself
            return
