"""SandboxFusion: `/run_code`, which always answers 200 and says in the body what went wrong."""

import base64
import binascii
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sandboxd.errors import Overload, RequestError, SystemFault
from sandboxd.gateway.adapters.jobs import Bodies, json, language_named, run, stream
from sandboxd.gateway.context import Gateway
from sandboxd.model import FileContent, LimitOverrides, Outcome, Result, RunRequest, Status

_NAMES = {"nodejs": "node", "js": "node", "javascript": "node", "pytest": "python"}
_TIMES = (Status.CPU_TIME_EXCEEDED, Status.WALL_TIME_EXCEEDED)
_MIB = 1 << 20


class Bad(ValueError):
    """The request makes no sense; the text says why."""


def routes(gateway: Gateway) -> list[BaseRoute]:
    fusion = Fusion(gateway)
    return [
        Route("/run_code", fusion.run_code, methods=["POST"]),
        Route("/v1/ping", fusion.ping, methods=["GET"]),
    ]


class Fusion:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._bodies = gateway, Bodies(gateway)

    async def ping(self, request: Request) -> Response:
        return json("pong")

    async def run_code(self, request: Request) -> Response:
        try:
            body = await self._bodies.json(request)
            asked = self._request(body)
        except (RequestError, Bad) as error:
            return json({"detail": str(error)}, 422)
        try:
            result = await run(self._gateway, request.scope["tenant"], asked, request.receive)
        except (RequestError, Overload, SystemFault) as error:
            return json(_failed("SandboxError", str(error)))
        return json(_answer(result))

    def _request(self, body: object) -> RunRequest:
        if not isinstance(body, dict):
            raise Bad("the body is not an object")
        for field in ("code", "language"):
            if not isinstance(body.get(field), str):
                raise Bad(f"{field}: a string is required")
        language = language_named(self._gateway.policies, _NAMES, body["language"].lower())
        if language is None:
            raise Bad(f"language: {body['language']!r} is not supported")
        policy = self._gateway.policies.language(language)
        files = body.get("files") or {}
        fetch = body.get("fetch_files") or []
        if not isinstance(files, dict) or not isinstance(fetch, list):
            raise Bad("files: an object, and fetch_files: an array")
        memory = body.get("memory_limit_MB", -1)
        if not isinstance(memory, int | float):
            raise Bad("memory_limit_MB: a number is required")
        compiles = policy is not None and policy.compile is not None
        return RunRequest(
            language=language,
            source=body["code"],
            stdin=str(body.get("stdin") or ""),
            files={str(name): _content(data) for name, data in files.items() if data is not None},
            collect=[str(name) for name in fetch],
            limits=LimitOverrides(
                **_seconds(body, "run_timeout"),  # type: ignore[arg-type]
                memory=int(memory * _MIB) if memory > 0 else None,
            ),
            compile_limits=LimitOverrides(**_seconds(body, "compile_timeout"))  # type: ignore[arg-type]
            if compiles
            else LimitOverrides(),
        )


def _seconds(body: dict[str, Any], field: str) -> dict[str, float]:
    """A timeout is of the wall clock; the CPU gets as much."""
    value = body.get(field, 10)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise Bad(f"{field}: a number of seconds is required")
    return {"wall_time": float(value), "cpu_time": float(value)}


def _content(data: object) -> FileContent:
    if not isinstance(data, str):
        raise Bad("files: base64 is required")
    try:
        base64.b64decode(data, validate=True)
    except binascii.Error:
        raise Bad("files: base64 is required") from None
    return FileContent(base64=data)


def _answer(result: Result) -> dict[str, Any]:
    compiled, ended = result.compile, None
    if compiled is None or compiled.status is Status.OK:
        ended = result
    whole = result.status is Status.OK
    if result.status is Status.INTERNAL_ERROR:
        return _failed("SandboxError", result.reason or "internal error")
    return {
        "status": "Success" if whole else "Failed",
        "message": "",
        "compile_result": _stage(compiled) if compiled is not None else None,
        "run_result": _stage(ended) if ended is not None else None,
        "executor_pod_name": result.node,
        "files": {
            name: base64.b64encode(content.data()).decode()
            for name, content in result.files.items()
        },
    }


def _stage(of: Result | Outcome) -> dict[str, Any]:
    """A breach of another limit than time shows as an error with return code 137, as if killed."""
    late = of.status in _TIMES
    code = of.exit_code
    if code is None and not late:
        code = 137
    return {
        "status": "TimeLimitExceeded" if late else "Finished",
        "execution_time": of.wall_time,
        "return_code": None if late else code,
        "stdout": stream(of, "stdout").decode(errors="replace"),
        "stderr": stream(of, "stderr").decode(errors="replace"),
    }


def _failed(status: str, message: str) -> dict[str, Any]:
    return {
        "status": status,
        "message": message,
        "compile_result": None,
        "run_result": None,
        "executor_pod_name": None,
        "files": {},
    }
