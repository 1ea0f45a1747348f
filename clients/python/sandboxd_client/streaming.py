"""The live stream of a run, frame by frame: pure encode and decode.

Binary frames carry data behind one byte of channel: 0 stdin, 1 stdout, 2 stderr. Text frames are
JSON: `{"type": "stdin_eof"}` from here, `exit` (with the result) or `error` from there.
"""

import json
from collections.abc import Iterator

from sandboxd_client.errors import ConnectionFailed, SandboxdError, ServerError, from_problem
from sandboxd_client.model import Output, Result, built, parse, result_of

CHUNK = 1 << 15
"""Bytes of stdin in one frame."""
MAX_FRAME = 1 << 28
"""Bytes of one frame from the service; the result with its files is one frame."""
STDIN_EOF = json.dumps({"type": "stdin_eof"})

_STDIN = b"\x00"


def stdin_frames(data: bytes) -> Iterator[bytes]:
    view = memoryview(data)
    for start in range(0, len(view), CHUNK):
        yield _STDIN + view[start : start + CHUNK]


class StreamReader:
    """Turns frames into output; remembers the result that ends them."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.result: Result | None = None

    def feed(self, frame: bytes | str) -> Output | None:
        """Output of a data frame; None for the exit, and for what a newer service may add.

        Raises SandboxdError: the service's own, or ServerError for what is not a frame.
        """
        if isinstance(frame, str):
            self._control(frame)
            return None
        match frame[:1]:
            case b"\x01":
                return Output("stdout", frame[1:])
            case b"\x02":
                return Output("stderr", frame[1:])
        raise ServerError("a frame of an unknown channel", code="bad_answer")

    def broken(self, cause: str) -> SandboxdError:
        """The error for a stream that ended without an exit."""
        return ConnectionFailed(f"the stream of {self.run} broke: {cause}")

    def _control(self, text: str) -> None:
        document = parse(text, dict)
        match document.get("type"):
            case "exit":
                self.result = built(document.get("result"), result_of)
            case "error":
                problem = document.get("problem")
                raise from_problem(problem if isinstance(problem, dict) else {})
