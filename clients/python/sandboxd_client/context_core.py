"""What can be asked of contexts, as flows: see `core` for how they are performed."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sandboxd_client.context_model import (
    CodeError,
    CodeResult,
    CodeValue,
    ContextInfo,
    code_result_of,
    context_of,
    error_of,
    value_of,
)
from sandboxd_client.core import Flow
from sandboxd_client.deadline import Deadline
from sandboxd_client.model import Output, built, parse
from sandboxd_client.sandbox_core import _JSON, _LINES, Documents, SandboxCore, _one

Heard = Callable[[str], None]
OnValue = Callable[[CodeValue], None]
Piece = Output | CodeValue | CodeError
_KEEP = 1 << 20


class ContextCore:
    """Each method that returns a Flow raises SandboxdError."""

    def __init__(self, core: SandboxCore, sandbox: str) -> None:
        self._core = core
        self._root = f"{_one(sandbox)}/contexts"

    def create(
        self, language: str, cwd: str, env: Mapping[str, str], deadline: Deadline
    ) -> Flow[ContextInfo]:
        body = {"language": language, "cwd": cwd, "env": dict(env)}
        return (
            yield from self._core._json(
                "POST", self._root, deadline, context_of, safe=False, body=body
            )
        )

    def list(self, deadline: Deadline) -> Flow[Sequence[ContextInfo]]:
        return (
            yield from self._core._json(
                "GET", self._root, deadline,
                lambda d: [context_of(each) for each in d["contexts"]], safe=True,
            )
        )  # fmt: skip

    def get(self, name: str, deadline: Deadline) -> Flow[ContextInfo]:
        return (
            yield from self._core._json("GET", self._one(name), deadline, context_of, safe=True)
        )

    def remove(self, name: str, deadline: Deadline) -> Flow[ContextInfo]:
        path = self._one(name)
        return (yield from self._core._json("DELETE", path, deadline, context_of, safe=False))

    def tell(self, name: str, verb: str, deadline: Deadline) -> Flow[ContextInfo]:
        """`restart`, `interrupt`."""
        path = f"{self._one(name)}/{verb}"
        return (yield from self._core._json("POST", path, deadline, context_of, safe=False))

    def run(self, name: str, body: bytes, deadline: Deadline) -> Flow[CodeResult]:
        request = self._core._request("POST", f"{self._one(name)}/run", _JSON, body)
        answer = yield from self._core._call(request, deadline, safe=False)
        return parse(answer.body, code_result_of)

    def follow(self, name: str, body: bytes, deadline: Deadline) -> Flow[Documents]:
        request = self._core._request("POST", f"{self._one(name)}/run", [*_LINES, *_JSON], body)
        return (yield from self._core._documents(request, deadline))

    def _one(self, name: str) -> str:
        return f"{self._root}/{name}"


def code_body(code: str, env: Mapping[str, str] | None, timeout: float | None) -> bytes:
    body: dict[str, Any] = {"code": code}
    if env:
        body["env"] = dict(env)
    if timeout is not None:
        body["timeout"] = timeout
    return json.dumps(body).encode()


class Collector:
    """Puts the documents of a stream together, and tells who listens as they come."""

    def __init__(
        self, on_stdout: Heard | None, on_stderr: Heard | None, on_value: OnValue | None
    ) -> None:
        self._heard = {"stdout": on_stdout, "stderr": on_stderr}
        self._texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._sizes = {"stdout": 0, "stderr": 0}
        self._on_value = on_value
        self._document: dict[str, Any] = {"results": []}
        self.over = False

    def feed(self, document: dict[str, Any]) -> Piece | None:
        """What the document is of that somebody may want to hear of, or None."""
        match document.get("type"):
            case "stdout" | "stderr" as stream:
                return self._text(stream, built(document, lambda d: str(d["text"])))
            case "result":
                self._document["results"].append(document)
                value = built(document, value_of)
                if self._on_value is not None:
                    self._on_value(value)
                return value
            case "exception":
                self._document["exception"] = document
                return built(document, error_of)
            case "missed":
                self._document["truncated"] = True
            case "started":
                self._document["execution_count"] = document.get("execution_count")
            case "end":
                self.over = True
                self._document |= {
                    "status": document["status"],
                    "detail": document.get("detail", ""),
                }
        return None

    def _text(self, stream: Any, text: str) -> Output:
        pieces = self._texts[stream]
        pieces.append(text)
        self._sizes[stream] += len(text)
        if self._sizes[stream] > 2 * _KEEP:
            pieces[:] = ["".join(pieces)[-_KEEP:]]
            self._sizes[stream] = _KEEP
            self._document["truncated"] = True
        heard = self._heard[stream]
        if heard is not None:
            heard(text)
        return Output(stream, text.encode())

    def result(self) -> CodeResult:
        texts = {name: "".join(pieces) for name, pieces in self._texts.items()}
        return built({**self._document, **texts}, code_result_of)
