"""`/openapi.json`: generated from the model and the table of operations below."""

import functools
from typing import Any

import msgspec
from msgspec import Struct

from sandboxd import __version__
from sandboxd.errors import InvalidRequest, NotFound, QueueFull, Unauthorized
from sandboxd.gateway.api.events import EVENT_ID
from sandboxd.gateway.api.health import Health
from sandboxd.gateway.api.languages import LanguageList
from sandboxd.gateway.api.sandbox_lines import EVENTS
from sandboxd.gateway.ids import RUN_ID
from sandboxd.gateway.openapi_contexts import (
    CONTEXT_OPERATIONS,
    CONTEXT_PARAMETERS,
    CONTEXT_TYPES,
)
from sandboxd.gateway.openapi_files import FILE_OPERATIONS, FILE_PARAMETERS, FILE_TYPES
from sandboxd.gateway.openapi_judge import JUDGE_OPERATIONS, JUDGE_PARAMETERS, JUDGE_TYPES
from sandboxd.gateway.openapi_sandboxes import (
    SANDBOX_OPERATIONS,
    SANDBOX_PARAMETERS,
    SANDBOX_TYPES,
)
from sandboxd.gateway.openapi_stored import (
    STORED_OPERATIONS,
    STORED_PARAMETERS,
    STORED_TYPES,
)
from sandboxd.gateway.operations import EVERYWHERE, JSON, Operation, Operations, parameter
from sandboxd.gateway.preferences import IDEMPOTENCY_KEY
from sandboxd.gateway.problems import MEDIA_TYPE, Problem
from sandboxd.model import Result, RunRecord, RunRequest

_REF = "#/components/schemas/{name}"

_call = Operations()
_open = Operations(errors=(), open=True)
_told = Operations(errors=(Unauthorized,))

_OPERATIONS: tuple[Operation, ...] = (
    _call(
        "POST /v1/runs",
        "create_run",
        "Run a program, and wait for its result unless `Prefer` says otherwise",
        {200: Result, 202: RunRecord},
        QueueFull,
        parameters=("Prefer", "Idempotency-Key"),
        request=RunRequest,
    ),
    _call(
        "GET /v1/runs/{id}",
        "read_run",
        "The state of a run, and its result when it has ended",
        RunRecord,
        NotFound,
    ),
    _call(
        "DELETE /v1/runs/{id}",
        "cancel_run",
        "Cancel a run; 202 while its node still ends it, 200 when it is over",
        {200: RunRecord, 202: RunRecord},
        NotFound,
    ),
    _call(
        "GET /v1/runs/{id}/events",
        "follow_run",
        "Events of a run as they happen (server-sent events)",
        None,
        NotFound,
        InvalidRequest,
        media=EVENTS,
        parameters=("Last-Event-ID",),
    ),
    *JUDGE_OPERATIONS,
    *STORED_OPERATIONS,
    *SANDBOX_OPERATIONS,
    *FILE_OPERATIONS,
    *CONTEXT_OPERATIONS,
    _call(
        "GET /v1/languages",
        "list_languages",
        "Languages, and which of them a live node offers",
        LanguageList,
    ),
    _open("GET /healthz", "alive", "Whether this process serves requests", Health),
    _call(
        "GET /readyz",
        "ready",
        "Whether a run would be accepted and started; open to loopback without a key",
        Health,
    ),
    _told(
        "GET /metrics",
        "metrics",
        "Prometheus text format; open to loopback without a key",
        media="text/plain",
    ),
    _open("GET /openapi.json", "openapi", "This document", media=JSON),
)

_PARAMETERS: dict[str, dict[str, Any]] = {
    **JUDGE_PARAMETERS,
    **STORED_PARAMETERS,
    **SANDBOX_PARAMETERS,
    **FILE_PARAMETERS,
    **CONTEXT_PARAMETERS,
    "id": parameter("id", "path", pattern=RUN_ID),
    "Prefer": parameter(
        "Prefer", "header", "RFC 7240: `respond-async`, `wait=<seconds>`; anything else is ignored."
    )
    | {"example": "wait=1"},
    "Idempotency-Key": parameter(
        "Idempotency-Key",
        "header",
        "A repeated request with the same key gets the first one's run.",
        pattern=IDEMPOTENCY_KEY,
    ),
    "Last-Event-ID": parameter(
        "Last-Event-ID", "header", "Resume after this event.", pattern=EVENT_ID
    ),
}

_HEADERS: dict[str, dict[str, Any]] = {
    "Location": {"schema": {"type": "string"}, "description": "The run."},
    "Preference-Applied": {"schema": {"type": "string"}, "description": "RFC 7240."},
    "Retry-After": {
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
        "description": "Seconds.",
    },
    "WWW-Authenticate": {"schema": {"type": "string"}},
}
_HEADERS_OF: dict[int, tuple[str, ...]] = {
    202: ("Location", "Preference-Applied"),
    401: ("WWW-Authenticate",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}


@functools.cache
def document() -> bytes:
    """The OpenAPI 3.1 document, as JSON."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in _OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _describe(operation)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "sandboxd",
                "version": __version__,
                "description": "Runs untrusted code in warm, single-use sandboxes.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": paths,
            "components": {
                "schemas": _schemas(),
                "headers": _HEADERS,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
            # Without a keys file no key is asked for, hence the empty alternative.
            "security": [{"key": []}, {}],
        }
    )


def _describe(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "responses": _answers(operation) | _errors(operation),
    }
    if operation.parameters:
        described["parameters"] = [_PARAMETERS[name] for name in operation.parameters]
    content: dict[str, Any] = {media: {"schema": {}} for media in operation.also}
    if operation.request is not None:
        content[JSON] = {"schema": _reference(operation.request)}
    if content:
        described["requestBody"] = {"required": not operation.optional, "content": content}
    if operation.open:
        described["security"] = []
    return described


def _answers(operation: Operation) -> dict[str, Any]:
    return {
        str(status): {
            "description": "Accepted, not finished" if status == 202 else "Done",
            **(
                {"content": {media: {"schema": _reference(schema) if schema else {}}}}
                if media
                else {}
            ),
            **_headers(status),
        }
        for status, (media, schema) in operation.answers.items()
    }


def _errors(operation: Operation) -> dict[str, Any]:
    return {
        str(error.status): {
            "description": error.title,
            "content": {MEDIA_TYPE: {"schema": _reference(Problem)}},
            **_headers(error.status),
        }
        for error in (*EVERYWHERE, *operation.errors)
    }


def _headers(status: int) -> dict[str, Any]:
    names = _HEADERS_OF.get(status, ())
    found = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return {"headers": found} if found else {}


def _schemas() -> dict[str, Any]:
    types = (
        RunRequest,
        RunRecord,
        Result,
        LanguageList,
        Health,
        Problem,
        *JUDGE_TYPES,
        *STORED_TYPES,
        *SANDBOX_TYPES,
        *FILE_TYPES,
        *CONTEXT_TYPES,
    )
    _, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    return {name: _portable(schema) for name, schema in schemas.items()}


def _portable(schema: Any) -> Any:
    """JSON Schema speaks ECMA 262, which writes Python's `\\Z` as `$`."""
    if isinstance(schema, dict):
        return {
            key: value.replace(r"\Z", "$") if key == "pattern" else _portable(value)
            for key, value in schema.items()
        }
    return [_portable(item) for item in schema] if isinstance(schema, list) else schema


def _reference(schema: type[Struct]) -> dict[str, str]:
    return {"$ref": _REF.format(name=schema.__name__)}
