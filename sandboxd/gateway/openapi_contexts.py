"""The operations of contexts, for the OpenAPI document."""

from typing import Any

from msgspec import Struct

from sandboxd.errors import Conflict
from sandboxd.gateway.openapi_sandboxes import INSIDE, ONE
from sandboxd.gateway.operations import Operation, parameter
from sandboxd.gateway.sessions.contexts import ContextUnavailable
from sandboxd.gateway.sessions.names import CONTEXT_ID
from sandboxd.model.context import (
    CodeRequest,
    CodeResult,
    Context,
    ContextList,
    ContextRequest,
    Raised,
    Shown,
)

CONTEXT_TYPES: tuple[type[Struct], ...] = (
    ContextRequest, Context, ContextList, CodeRequest, CodeResult, Shown, Raised,
)  # fmt: skip

_CONTEXT = f"{ONE}/contexts/{{context}}"

CONTEXT_OPERATIONS: tuple[Operation, ...] = (
    INSIDE(f"GET {ONE}/contexts", "list_contexts", "Contexts that live", ContextList),
    INSIDE(
        f"POST {ONE}/contexts",
        "create_context",
        "Start an interpreter that keeps its state; answered when it is ready",
        Context,
        ContextUnavailable,
        status=201,
        request=ContextRequest,
        optional=True,
    ),
    INSIDE(f"GET {_CONTEXT}", "read_context", "A context that lives", Context),
    INSIDE(f"DELETE {_CONTEXT}", "remove_context", "End a context", Context),
    INSIDE(
        f"POST {_CONTEXT}/run",
        "run_code",
        "Run code in a context; as a stream of events with `Accept: application/x-ndjson` or "
        "`text/event-stream`. A default context (`ctx_LANGUAGE`) is started when it is not there",
        CodeResult,
        ContextUnavailable,
        Conflict,
        request=CodeRequest,
    ),
    INSIDE(
        f"POST {_CONTEXT}/restart",
        "restart_context",
        "Start its interpreter anew",
        Context,
        ContextUnavailable,
    ),
    INSIDE(
        f"POST {_CONTEXT}/interrupt",
        "interrupt_context",
        "Interrupt what runs in it",
        Context,
    ),
)

CONTEXT_PARAMETERS: dict[str, dict[str, Any]] = {
    "context": parameter("context", "path", pattern=CONTEXT_ID),
}
