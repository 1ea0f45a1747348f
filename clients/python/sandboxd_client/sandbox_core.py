"""What can be asked of sandboxes, as flows: see `core` for how they are performed."""

import base64
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode, urljoin

import httpx

from sandboxd_client.core import Answer, Core, Flow, Open, Read, Send
from sandboxd_client.deadline import Deadline
from sandboxd_client.errors import ConnectionFailed, ServerError, from_problem
from sandboxd_client.model import Output, built, content, content_of, parse
from sandboxd_client.sandbox_model import (
    Command,
    CommandOptions,
    CommandResult,
    FileEvent,
    FileInfo,
    Metrics,
    MetricsHistory,
    NetworkRecord,
    PortLink,
    ProcessInfo,
    SandboxEvent,
    SandboxInfo,
    SandboxLimits,
    SandboxOptions,
    SignedUrl,
    Snapshot,
    change_of,
    command_result_of,
    event_of,
    file_of,
    history_of,
    metrics_of,
    process_of,
    record_of,
    sandbox_of,
)

T = TypeVar("T")

Path = str | bytes | os.PathLike[str]
"""In a sandbox: absolute, or relative to /work."""
Query = dict[str, str | int | bool | None]

_LINES = [(b"Accept", b"application/x-ndjson")]
_EVENTS_KEY = b"Last-Event-ID"
_JSON = [(b"Content-Type", b"application/json")]
_ROOT = "/v1/sandboxes"
_OPTIONS = frozenset(SandboxOptions.__annotations__)
_COMMAND = frozenset(CommandOptions.__annotations__)


class SandboxCore(Core):
    """Each method that returns a Flow raises SandboxdError."""

    def create(
        self, options: SandboxOptions, key: str | None, deadline: Deadline
    ) -> Flow[SandboxInfo]:
        body = _sandbox_body(options)
        post = self._post_body(body, key, [])
        request = httpx.Request(
            "POST", self._url(_ROOT), headers=post.headers, stream=httpx.ByteStream(body)
        )
        # The key makes a repetition safe.
        answer = yield from self._call(request, deadline, safe=True)
        return parse(answer.body, sandbox_of)

    def sandbox(self, name: str, deadline: Deadline) -> Flow[SandboxInfo]:
        return (yield from self._json("GET", _one(name), deadline, sandbox_of, safe=True))

    def page(
        self, state: str | None, metadata: Mapping[str, str], cursor: str | None, limit: int,
        deadline: Deadline,
    ) -> Flow[tuple[list[SandboxInfo], str | None]]:  # fmt: skip
        query: Query = {"state": state, "cursor": cursor, "limit": limit}
        query |= {f"metadata.{name}": value for name, value in metadata.items()}
        return (
            yield from self._json(
                "GET", _ROOT + _query(query), deadline,
                lambda d: ([sandbox_of(each) for each in d["sandboxes"]], d.get("next_cursor")),
                safe=True,
            )
        )  # fmt: skip

    def kill(self, name: str, deadline: Deadline) -> Flow[SandboxInfo]:
        return (yield from self._json("DELETE", _one(name), deadline, sandbox_of, safe=True))

    def change(
        self, name: str, verb: str, body: Mapping[str, Any] | None, deadline: Deadline
    ) -> Flow[SandboxInfo]:
        """`extend`, `pause`, `resume`: what may be done twice without harm."""
        return (
            yield from self._json(
                "POST", f"{_one(name)}/{verb}", deadline, sandbox_of, safe=True, body=body
            )
        )

    def update(self, name: str, body: Mapping[str, Any], deadline: Deadline) -> Flow[SandboxInfo]:
        return (
            yield from self._json("PATCH", _one(name), deadline, sandbox_of, safe=True, body=body)
        )

    def snapshot(self, name: str, image: str | None, deadline: Deadline) -> Flow[Snapshot]:
        return (
            yield from self._json(
                "POST", f"{_one(name)}/snapshot", deadline,
                lambda d: Snapshot(image=d["image"], size=d["size"]),
                safe=False, body={"name": image},
            )
        )  # fmt: skip

    def fork(self, name: str, count: int, deadline: Deadline) -> Flow[list[SandboxInfo]]:
        return (
            yield from self._json(
                "POST", f"{_one(name)}/fork", deadline,
                lambda d: [sandbox_of(each) for each in d["sandboxes"]],
                safe=False, body={"count": count},
            )
        )  # fmt: skip

    def metrics(self, name: str, deadline: Deadline) -> Flow[Metrics]:
        path = f"{_one(name)}/metrics"
        return (yield from self._json("GET", path, deadline, metrics_of, safe=True))

    def history(self, name: str, after: str | None, deadline: Deadline) -> Flow[MetricsHistory]:
        path = f"{_one(name)}/metrics/history{_query({'after': after})}"
        return (yield from self._json("GET", path, deadline, history_of, safe=True))

    def network_records(
        self, name: str, cursor: str | None, limit: int, deadline: Deadline
    ) -> Flow[tuple[NetworkRecord, ...]]:
        path = f"{_one(name)}/network{_query({'cursor': cursor, 'limit': limit})}"
        return (
            yield from self._json(
                "GET", path, deadline, lambda d: tuple(record_of(each) for each in d["records"]),
                safe=True,
            )
        )  # fmt: skip

    # Processes

    def execute(self, name: str, body: bytes, deadline: Deadline) -> Flow[CommandResult]:
        request = self._request("POST", f"{_one(name)}/exec", _JSON, body)
        answer = yield from self._call(request, deadline, safe=False)
        return parse(answer.body, command_result_of)

    def start(self, name: str, body: bytes, deadline: Deadline) -> Flow[ProcessInfo]:
        request = self._request("POST", f"{_one(name)}/processes", _JSON, body)
        answer = yield from self._call(request, deadline, safe=False)
        return parse(answer.body, process_of)

    def processes(self, name: str, deadline: Deadline) -> Flow[list[ProcessInfo]]:
        return (
            yield from self._json(
                "GET", f"{_one(name)}/processes", deadline,
                lambda d: [process_of(each) for each in d["processes"]], safe=True,
            )
        )  # fmt: skip

    def process(self, name: str, process: str, wait: int, deadline: Deadline) -> Flow[ProcessInfo]:
        path = f"{_process(name, process)}{_query({'wait': wait or None})}"
        return (yield from self._json("GET", path, deadline, process_of, safe=True))

    def tell(
        self, name: str, process: str, verb: str, body: Mapping[str, Any], deadline: Deadline
    ) -> Flow[ProcessInfo]:
        """`signal`, `stdin`, `resize`."""
        path = f"{_process(name, process)}/{verb}"
        return (yield from self._json("POST", path, deadline, process_of, safe=False, body=body))

    def port(self, name: str, port: int, wait: int, deadline: Deadline) -> Flow[bool]:
        path = f"{_one(name)}/ports/{int(port)}{_query({'wait': wait or None})}"
        return (yield from self._json("GET", path, deadline, lambda d: bool(d["open"]), safe=True))

    def link(self, name: str, port: int, expires_in: float, deadline: Deadline) -> Flow[PortLink]:
        return (
            yield from self._json(
                "POST", f"{_one(name)}/ports/{int(port)}", deadline,
                lambda d: PortLink(
                    url=urljoin(self.endpoint.origin, d["url"]), token=d["token"],
                    expires_at=d["expires_at"],
                ),
                safe=True, body={"expires_in": expires_in},
            )
        )  # fmt: skip

    # Files

    def stat(self, name: str, path: Path, follow: bool, deadline: Deadline) -> Flow[FileInfo]:
        where = f"{_one(name)}/files/stat{_query({**at(path), 'follow': follow})}"
        return (yield from self._json("GET", where, deadline, file_of, safe=True))

    def files(
        self, name: str, path: Path, depth: int, cursor: str | None, deadline: Deadline
    ) -> Flow[tuple[list[FileInfo], str | None]]:
        query = _query({**at(path), "depth": depth, "cursor": cursor})
        return (
            yield from self._json(
                "GET", f"{_one(name)}/files{query}", deadline,
                lambda d: ([file_of(each) for each in d["entries"]], d.get("next_cursor")),
                safe=True,
            )
        )  # fmt: skip

    def change_file(
        self, name: str, verb: str, body: Mapping[str, Any], deadline: Deadline
    ) -> Flow[FileInfo]:
        """`directory`, `move`, `mode`."""
        path = f"{_one(name)}/files/{verb}"
        return (yield from self._json("POST", path, deadline, file_of, safe=False, body=body))

    def remove(self, name: str, path: Path, recursive: bool, deadline: Deadline) -> Flow[int]:
        where = f"{_one(name)}/files{_query({**at(path), 'recursive': recursive})}"
        return (
            yield from self._json(
                "DELETE", where, deadline, lambda d: int(d["entries"]), safe=False
            )
        )

    def write_many(
        self, name: str, files: Mapping[str, str | bytes], deadline: Deadline
    ) -> Flow[int]:
        body = {"files": [{"path": path, **content(data)} for path, data in files.items()]}
        return (
            yield from self._json(
                "POST", f"{_one(name)}/files/batch", deadline, lambda d: int(d["files"]),
                safe=True, body=body,
            )
        )  # fmt: skip

    def sign(
        self, name: str, path: str, method: str, expires_in: float, deadline: Deadline
    ) -> Flow[SignedUrl]:
        body = {"path": path, "method": method, "expires_in": expires_in}
        return (
            yield from self._json(
                "POST", f"{_one(name)}/files/sign", deadline,
                lambda d: SignedUrl(
                    url=self.endpoint.origin + d["url"], method=d["method"],
                    expires_at=d["expires_at"],
                ),
                safe=True, body=body,
            )
        )  # fmt: skip

    def write(
        self, name: str, path: Path, query: Query, stream: Any, deadline: Deadline,
        where: str = "content",
    ) -> Flow[Answer]:  # fmt: skip
        """`stream` is of the shell's kind. Once only: what was read from it is gone."""
        url = self._url(f"{_one(name)}/files/{where}{_query({**at(path), **query})}")
        size = getattr(stream, "size", None)
        length = (
            (b"Transfer-Encoding", b"chunked")
            if size is None
            else (b"Content-Length", b"%d" % size)
        )
        headers = self._all([(b"Content-Type", b"application/octet-stream"), length])
        answer: Answer = yield Send(
            httpx.Request("PUT", url, headers=headers, stream=stream), deadline
        )
        if not answer.ok:
            raise answer.error()
        return answer

    def open_file(
        self, name: str, path: Path, offset: int, tag: str | None, deadline: Deadline,
        where: str = "content",
    ) -> Flow[Answer]:  # fmt: skip
        """Its bytes follow by `Read`; from `offset` on, if the file is still the one of `tag`."""
        extra = [(b"Range", b"bytes=%d-" % offset)] if offset else []
        if tag is not None and offset:
            extra.append((b"If-Range", tag.encode()))
        answer: Answer = yield Open(
            self._request("GET", f"{_one(name)}/files/{where}{_query(at(path))}", extra), deadline
        )
        if not answer.ok:
            raise answer.error()
        return answer

    # Streams of documents

    def follow(
        self, name: str, body: bytes | None, process: str, deadline: Deadline
    ) -> Flow["Documents"]:
        """A command that is started, or the output of `process`."""
        if body is not None:
            request = self._request("POST", f"{_one(name)}/exec", [*_LINES, *_JSON], body)
        else:
            request = self._request("GET", f"{_process(name, process)}/output", _LINES)
        return (yield from self._documents(request, deadline))

    def watch(
        self, name: str, path: Path, recursive: bool, deadline: Deadline
    ) -> Flow["Documents"]:
        where = f"{_one(name)}/files/watch{_query({**at(path), 'recursive': recursive})}"
        return (yield from self._documents(self._request("GET", where, _LINES), deadline))

    def events_of(
        self, name: str | None, after: str | None, deadline: Deadline
    ) -> Flow["Documents"]:
        where = f"{_ROOT}/events" if name is None else f"{_one(name)}/events"
        extra = [*_LINES, *([(_EVENTS_KEY, after.encode())] if after else [])]
        return (yield from self._documents(self._request("GET", where, extra), deadline))

    def used(self, name: str, interval: int, deadline: Deadline) -> Flow["Documents"]:
        where = f"{_one(name)}/metrics/stream{_query({'interval': interval})}"
        return (yield from self._documents(self._request("GET", where, _LINES), deadline))

    def _documents(self, request: httpx.Request, deadline: Deadline) -> Flow["Documents"]:
        answer: Answer = yield Open(request, deadline)
        if not answer.ok:
            raise answer.error()
        return Documents()

    def _json(
        self, method: str, path: str, deadline: Deadline, build: Callable[[Any], T], *, safe: bool,
        body: Mapping[str, Any] | None = None,
    ) -> Flow[T]:  # fmt: skip
        data = None if body is None else json.dumps(body).encode()
        request = self._request(method, path, [] if data is None else _JSON, data)
        answer = yield from self._call(request, deadline, safe=safe)
        return parse(answer.body, build)

    def _request(
        self, method: str, path: str, extra: list[tuple[bytes, bytes]], body: bytes | None = None
    ) -> httpx.Request:
        headers = self._all(extra)
        if body is not None:
            headers.append((b"Content-Length", b"%d" % len(body)))
        elif method in ("POST", "PUT", "PATCH"):
            headers.append((b"Content-Length", b"0"))
        return httpx.Request(
            method, self._url(path), headers=headers, stream=httpx.ByteStream(body or b"")
        )


class Documents:
    """Takes an opened body of NDJSON apart."""

    def __init__(self) -> None:
        self._rest = b""
        self._ready: list[dict[str, Any]] = []

    def next(self, deadline: Deadline) -> Flow[dict[str, Any] | None]:
        """The next document, or None at the end. Raises the error that the service sent as the last."""
        while not self._ready:
            chunk: bytes | None = yield Read(deadline)
            if chunk is None:
                if self._rest.strip():
                    raise ConnectionFailed("the stream broke off within a line")
                return None
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            self._ready = [parse(line, dict) for line in lines if line.strip()]
        document = self._ready.pop(0)
        if document.get("type") == "error":
            problem = document.get("problem")
            raise from_problem(problem if isinstance(problem, dict) else {})
        return document


def piece_of(document: Mapping[str, Any]) -> Output | None:
    """Output, where the document is of some."""
    kind = document.get("type")
    if kind == "stdout":
        return Output("stdout", built(document, content_of))
    if kind == "stderr":
        return Output("stderr", built(document, content_of))
    return None


def changes_of(document: Mapping[str, Any]) -> list[FileEvent]:
    if document.get("type") != "changes":
        return []
    return built(document, lambda d: [change_of(each) for each in d["events"]])


def happening_of(document: Mapping[str, Any]) -> SandboxEvent:
    return built(document, event_of)


def use_of(document: Mapping[str, Any]) -> Metrics:
    return built(document, metrics_of)


def exit_of(document: Mapping[str, Any]) -> ProcessInfo | None:
    """The process, where the document says that it has ended."""
    if document.get("type") != "exit":
        return None
    return built(document, lambda d: process_of(d["process"]))


def broken(process: str) -> ServerError:
    return ServerError(f"the stream of {process} ended without its exit", code="bad_answer")


def argv(command: Command) -> list[str]:
    """A string is a script for /bin/sh; anything else is the words themselves."""
    if isinstance(command, str):
        return ["/bin/sh", "-c", command]
    return list(command)


def command_body(
    command: Command, options: CommandOptions, *, input: str | bytes = "",
    timeout: float | None = None, stdin: bool = False, pty: tuple[int, int] | None = None,
) -> bytes:  # fmt: skip
    """The body of `exec` and `processes`. Raises TypeError for an option that there is not."""
    unknown = options.keys() - _COMMAND
    if unknown:
        raise TypeError(f"no such option of a command: {', '.join(sorted(unknown))}")
    body: dict[str, Any] = {
        name: dict(value) if isinstance(value, Mapping) else value
        for name, value in options.items()
        if value is not None
    }
    body["command"] = argv(command)
    if input:
        body["input"] = content(input)
    if timeout is not None:
        body["timeout"] = timeout
    if stdin:
        body["stdin"] = True
    if pty is not None:
        body["pty"] = {"rows": pty[0], "cols": pty[1]}
    return json.dumps(body).encode()


def at(path: Path) -> Query:
    """A path as query parameters, or fields of a body."""
    if isinstance(path, os.PathLike):
        path = os.fspath(path)
    if isinstance(path, bytes):
        try:
            return {"path": path.decode()}
        except UnicodeDecodeError:
            return {"path_base64": base64.b64encode(path).decode()}
    try:
        path.encode()
    except UnicodeEncodeError:  # a name that Python's own os functions gave
        return {"path_base64": base64.b64encode(os.fsencode(path)).decode()}
    return {"path": path}


def _sandbox_body(options: SandboxOptions) -> bytes:
    unknown = options.keys() - _OPTIONS
    if unknown:
        raise TypeError(f"no such option of a sandbox: {', '.join(sorted(unknown))}")
    body: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, SandboxLimits):
            body[name] = value.given()
        elif isinstance(value, Sequence) and not isinstance(value, str):
            body[name] = [dict(each) for each in value]
        elif value is not None:
            body[name] = dict(value) if isinstance(value, Mapping) else value
    return json.dumps(body).encode()


def _query(query: Query) -> str:
    pairs = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in query.items()
        if value is not None
    }
    return f"?{urlencode(pairs)}" if pairs else ""


def _one(name: str) -> str:
    return f"{_ROOT}/{_id(name)}"


def _process(name: str, process: str) -> str:
    return f"{_one(name)}/processes/{_id(process)}"


def _id(name: str) -> str:
    """`name`, if it can stand in a path. Raises ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"{name!r} is not an id")
    return name
