"""Piston v2: `execute`, `runtimes`, `packages` (read-only) and the WebSocket `connect`."""

import base64
import binascii
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from sandboxd import __version__
from sandboxd.errors import Overload, RequestError
from sandboxd.gateway.adapters.jobs import Bodies, json, language_named, run, stream
from sandboxd.gateway.adapters.piston_socket import PistonSocket
from sandboxd.gateway.context import Gateway
from sandboxd.model import FileContent, LimitOverrides, Outcome, Result, RunRequest, Status

NAMES = {"javascript": "node", "js": "node", "c++": "cpp", "gcc": "c", "sh": "bash"}
VERSION = __version__
"""Of every runtime: which compiler stands behind a language is the node's to know."""
_STATUS = {
    Status.OK: None,
    Status.NONZERO_EXIT: "RE",
    Status.COMPILE_ERROR: "RE",
    Status.SIGNALLED: "SG",
    Status.SECURITY_VIOLATION: "SG",
    Status.DISK_EXCEEDED: "SG",
    Status.MEMORY_EXCEEDED: "SG",
    Status.CPU_TIME_EXCEEDED: "TO",
    Status.WALL_TIME_EXCEEDED: "TO",
    Status.OUTPUT_EXCEEDED: "OL",
    Status.CANCELLED: "XX",
    Status.INTERNAL_ERROR: "XX",
}
_MESSAGES = {
    Status.CPU_TIME_EXCEEDED: "Time limit exceeded",
    Status.WALL_TIME_EXCEEDED: "Time limit exceeded (wall clock)",
    Status.MEMORY_EXCEEDED: "Memory limit exceeded",
    Status.OUTPUT_EXCEEDED: "stdout length exceeded",
    Status.DISK_EXCEEDED: "Disk limit exceeded",
    Status.INTERNAL_ERROR: "Internal error",
}


class Bad(ValueError):
    """Answered 400 with its text as the message."""


def routes(gateway: Gateway) -> list[BaseRoute]:
    piston = Piston(gateway)
    return [
        Route("/api/v2/execute", piston.execute, methods=["POST"]),
        Route("/api/v2/runtimes", piston.runtimes, methods=["GET"]),
        Route("/api/v2/packages", piston.packages, methods=["GET"]),
        Route("/api/v2/packages", piston.no_packages, methods=["POST", "DELETE"]),
        WebSocketRoute("/api/v2/connect", PistonSocket(gateway, piston.request).connect),
    ]


class Piston:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._bodies = gateway, Bodies(gateway)

    async def runtimes(self, request: Request) -> Response:
        offered = {name for node in await self._gateway.queue.nodes() for name in node.languages}
        return json(
            [
                {"language": x.name, "version": VERSION, "aliases": _aliases(x.name, x.aliases)}
                for x in self._gateway.policies.languages.values()
                if x.name in offered
            ]
        )

    async def packages(self, request: Request) -> Response:
        offered = {name for node in await self._gateway.queue.nodes() for name in node.languages}
        return json(
            [
                {"language": name, "language_version": VERSION, "installed": name in offered}
                for name in self._gateway.policies.languages
            ]
        )

    async def no_packages(self, request: Request) -> Response:
        """Languages are the operator's; there is nothing here that could be installed."""
        if not _is_json(request):
            return _wrong_type()
        try:
            body = await self._bodies.json(request)
        except RequestError as error:
            return json({"message": error.detail}, error.status)
        fields = body if isinstance(body, dict) else {}
        name = f"{fields.get('language')}-{fields.get('version')}"
        return json({"message": f"Requested package {name} does not exist"}, 404)

    async def execute(self, request: Request) -> Response:
        if not _is_json(request):
            return _wrong_type()
        try:
            body = await self._bodies.json(request)
            asked = self.request(body)
            result = await run(self._gateway, request.scope["tenant"], asked, request.receive)
        except Bad as error:
            return json({"message": str(error)}, 400)
        except Overload as error:
            return json({"message": error.detail}, error.status)
        except RequestError as error:
            return json({"message": error.detail}, error.status if error.status == 413 else 400)
        return json(_answer(result))

    def request(self, body: object) -> RunRequest:
        """The run that a body asks for. Raises Bad."""
        if not isinstance(body, dict):
            raise Bad("language is required as a string")
        for field in ("language", "version"):
            if not isinstance(body.get(field), str) or not body[field]:
                raise Bad(f"{field} is required as a string")
        if not isinstance(body.get("files"), list):
            raise Bad("files is required as an array")
        name = language_named(self._gateway.policies, NAMES, body["language"].lower())
        language = self._gateway.policies.language(name) if name else None
        if language is None:
            raise Bad(f"{body['language']}-{body['version']} runtime is unknown")
        source, files = _files(body["files"], language.source)
        compiles = language.compile is not None
        limits = self._gateway.policies.limits.maximum
        given = {key: _number(body, key, limits) for key in _LIMITS}
        return RunRequest(
            language=language.name,
            source=source,
            files=files,
            args=[str(word) for word in body.get("args") or []],
            stdin=str(body.get("stdin") or ""),
            limits=_limits(given, "run"),
            compile_limits=_limits(given, "compile") if compiles else LimitOverrides(),
        )


_LIMITS = tuple(
    f"{stage}_{kind}"
    for stage in ("compile", "run")
    for kind in ("timeout", "cpu_time", "memory_limit")
)


def _number(body: dict[str, Any], key: str, maximum: Any) -> float | None:
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Bad(f"If specified, {key} must be a number")
    name = {"timeout": "wall_time", "cpu_time": "cpu_time", "memory_limit": "memory"}
    most = getattr(maximum, name[key.partition("_")[2]])
    most = most if key.endswith("memory_limit") else most * 1000
    if key.endswith("memory_limit") and value == -1:
        return None
    if value > most:
        raise Bad(f"{key} cannot exceed the configured limit of {most:g}")
    if value < 0:
        raise Bad(f"{key} must be non-negative")
    return float(value)


def _limits(given: dict[str, float | None], stage: str) -> LimitOverrides:
    wall, cpu = given[f"{stage}_timeout"], given[f"{stage}_cpu_time"]
    memory = given[f"{stage}_memory_limit"]
    return LimitOverrides(
        wall_time=wall / 1000 if wall else None,
        cpu_time=cpu / 1000 if cpu else None,
        memory=max(int(memory), 4096) if memory else None,
    )


def _files(given: list[Any], main: str) -> tuple[str, dict[str, FileContent]]:
    """The first text file is the program; the others lie beside it."""
    source: str | None = None
    files: dict[str, FileContent] = {}
    for index, file in enumerate(given):
        if not isinstance(file, dict) or not isinstance(file.get("content"), str):
            raise Bad(f"files[{index}].content is required as a string")
        encoding = file.get("encoding") or "utf8"
        if source is None and encoding == "utf8":
            source = file["content"]
            continue
        name = file.get("name") or f"file{index}.code"
        files[str(name)] = FileContent.of(_decoded(file["content"], encoding, index))
    if source is None:
        raise Bad("files must include at least one utf8 encoded file")
    files.pop(main, None)
    return source, files


def _decoded(content: str, encoding: object, index: int) -> bytes:
    try:
        if encoding == "base64":
            return base64.b64decode(content)
        return bytes.fromhex(content) if encoding == "hex" else content.encode()
    except (ValueError, binascii.Error):
        raise Bad(f"files[{index}].content is not {encoding}") from None


def _answer(result: Result) -> dict[str, Any]:
    body: dict[str, Any] = {"language": result.language, "version": VERSION}
    if result.compile is not None:
        body["compile"] = stage(result.compile)
    failed = result.compile is not None and result.compile.status is not Status.OK
    body["run"] = body["compile"] if failed else stage(result)
    return body


def stage(of: Result | Outcome) -> dict[str, Any]:
    stdout, stderr = (stream(of, name).decode(errors="replace") for name in ("stdout", "stderr"))
    status = _STATUS[of.status]
    if status == "OL" and of.stderr_truncated and not of.stdout_truncated:
        status = "EL"
    message = "stderr length exceeded" if status == "EL" else _MESSAGES.get(of.status)
    if status == "RE":
        message = f"Exited with error status {of.exit_code}"
    return {
        "stdout": stdout,
        "stderr": stderr,
        "output": stdout + stderr,
        "code": of.exit_code,
        "signal": "SIGKILL" if status in ("TO", "OL", "EL") else of.signal,
        "message": message,
        "status": status,
        "cpu_time": round(of.cpu_time * 1000),
        "wall_time": round(of.wall_time * 1000),
        "memory": of.peak_memory,
    }


def _aliases(name: str, aliases: list[str]) -> list[str]:
    return sorted({*aliases, *(alias for alias, ours in NAMES.items() if ours == name)} - {name})


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("application/json")


def _wrong_type() -> Response:
    return json({"message": "requests must be of type application/json"}, 415)
