"""The WebSockets of a sandbox's process, message by message: pure encode and decode."""

import json
from collections.abc import Iterator
from urllib.parse import urlencode

from sandboxd_client.errors import ConnectionFailed, SandboxdError, ServerError, from_problem
from sandboxd_client.model import Output, built, parse
from sandboxd_client.sandbox_model import ProcessInfo, process_of

CHUNK = 1 << 15
"""Bytes of stdin in one message."""
STDIN_EOF = json.dumps({"type": "stdin_eof"})
_STDIN = b"\x00"


def stdin_messages(data: bytes) -> Iterator[bytes]:
    view = memoryview(data)
    for start in range(0, len(view), CHUNK):
        yield _STDIN + view[start : start + CHUNK]


def resize_message(rows: int, cols: int) -> str:
    return json.dumps({"type": "resize", "rows": rows, "cols": cols})


def signal_message(signal: int | str) -> str:
    return json.dumps({"type": "signal", "signal": signal})


def path_of_exec(sandbox: str, *, kill: bool) -> str:
    return f"/v1/sandboxes/{sandbox}/exec{'?on_disconnect=kill' if kill else ''}"


def path_of_stream(sandbox: str, process: str, *, history: bool) -> str:
    query = "" if history else "?" + urlencode({"history": "false"})
    return f"/v1/sandboxes/{sandbox}/processes/{process}/stream{query}"


class SocketReader:
    """Turns messages into output; remembers the process, and its end."""

    def __init__(self) -> None:
        self.process: ProcessInfo | None = None
        self.ended = False

    def feed(self, message: bytes | str) -> Output | None:
        """Raises SandboxdError: the service's own, or ServerError for what is no message."""
        if isinstance(message, str):
            self._control(message)
            return None
        match message[:1]:
            case b"\x01":
                return Output("stdout", message[1:])
            case b"\x02":
                return Output("stderr", message[1:])
        raise ServerError("a message of an unknown stream", code="bad_answer")

    def broken(self, cause: str) -> SandboxdError:
        """The error for a stream that ended without an exit: the process may go on."""
        return ConnectionFailed(f"the stream of the process broke: {cause}")

    def _control(self, text: str) -> None:
        document = parse(text, dict)
        match document.get("type"):
            case "started":
                self.process = built(document.get("process"), process_of)
            case "exit":
                self.process = built(document.get("process"), process_of)
                self.ended = True
            case "error":
                problem = document.get("problem")
                raise from_problem(problem if isinstance(problem, dict) else {})
