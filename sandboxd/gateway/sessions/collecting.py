"""The events of a run put together into one answer, within bounds. Pure."""

import msgspec

from sandboxd.model.context import (
    CodeEvent,
    CodeResult,
    Ended,
    EndStatus,
    Omitted,
    Raised,
    Shown,
    Started,
    Stderr,
    Stdout,
)

OUTPUT_MAX = 1 << 20
"""Characters of each stream that are kept: the newest."""
RESULTS_MAX = 16 << 20
"""Bytes of all results that are kept: the first."""
_encode = msgspec.json.Encoder().encode


class Collected:
    def __init__(self) -> None:
        self._streams: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._sizes = {"stdout": 0, "stderr": 0}
        self._results: list[Shown] = []
        self._room = RESULTS_MAX
        self._raised: Raised | None = None
        self._count: int | None = None
        self._ended = Ended(status=EndStatus.LOST)
        self._truncated = False

    def add(self, event: CodeEvent) -> None:
        match event:
            case Started(execution_count=count):
                self._count = count
            case Stdout(text=text):
                self._add_text("stdout", text)
            case Stderr(text=text):
                self._add_text("stderr", text)
            case Shown():
                self._add_result(event)
            case Raised():
                self._raised = event
            case Omitted():
                self._truncated = True
            case Ended():
                self._ended = event

    def _add_text(self, stream: str, text: str) -> None:
        pieces = self._streams[stream]
        pieces.append(text)
        self._sizes[stream] += len(text)
        if self._sizes[stream] > 2 * OUTPUT_MAX:
            pieces[:] = [self._newest(stream)]
            self._sizes[stream] = len(pieces[0])

    def _newest(self, stream: str) -> str:
        whole = "".join(self._streams[stream])
        self._truncated = self._truncated or len(whole) > OUTPUT_MAX
        return whole[-OUTPUT_MAX:]

    def _add_result(self, event: Shown) -> None:
        size = len(_encode(event))
        if size > self._room:
            self._truncated = True
        else:
            self._results.append(event)
            self._room -= size
        self._truncated = self._truncated or bool(event.truncated)

    def result(self) -> CodeResult:
        stdout, stderr = self._newest("stdout"), self._newest("stderr")
        return CodeResult(
            status=self._ended.status,
            detail=self._ended.detail,
            execution_count=self._count,
            stdout=stdout,
            stderr=stderr,
            results=self._results,
            exception=self._raised,
            truncated=self._truncated,
        )
