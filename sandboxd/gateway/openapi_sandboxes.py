"""The operations of sandboxes that live, for the OpenAPI document; it has no words for WebSockets."""

from typing import Any

from msgspec import Struct

from sandboxd.errors import (
    BodyTooLarge,
    Conflict,
    InvalidRequest,
    MalformedBody,
    NoSpace,
    NotFound,
    QuotaExceeded,
    RequestTimeout,
    SandboxEnded,
    UnsupportedMediaType,
)
from sandboxd.gateway.api.sandbox_lines import EVENTS, NDJSON
from sandboxd.gateway.operations import GUARDED, Errors, Operations, flag, number, parameter
from sandboxd.model.agent import Forked, PortState, ProcessList, Snapshotted
from sandboxd.model.network_use import NetworkPage
from sandboxd.model.session import (
    PROCESS_ID,
    SANDBOX_ID,
    Metrics,
    Process,
    PtySize,
    Sandbox,
    SandboxRequest,
)
from sandboxd.model.session_api import (
    CommandRequest,
    CommandResult,
    ExtendRequest,
    ForkRequest,
    InputRequest,
    LinkRequest,
    PortLink,
    SandboxList,
    SandboxUpdate,
    SignalRequest,
    SnapshotRequest,
)
from sandboxd.model.session_metrics import MetricsHistory

SANDBOX_TYPES: tuple[type[Struct], ...] = (
    SandboxRequest, Sandbox, SandboxList, SandboxUpdate, ExtendRequest, SnapshotRequest, Snapshotted,
    ForkRequest, Forked, Metrics, MetricsHistory, NetworkPage, CommandRequest, CommandResult, Process,
    ProcessList, SignalRequest, InputRequest, PtySize, PortState, LinkRequest, PortLink,
)  # fmt: skip

ONE = "/v1/sandboxes/{id:sandbox}"
_PROCESS = f"{ONE}/processes/{{process}}"

OF_ONE: Errors = (*GUARDED, NotFound, InvalidRequest, RequestTimeout, SandboxEnded, Conflict)
INSIDE = Operations(OF_ONE, (*OF_ONE, BodyTooLarge, MalformedBody, UnsupportedMediaType, NoSpace))
"""What is asked of one that lives."""
_call = Operations()

_LIFE = (
    _call(
        "POST /v1/sandboxes",
        "create_sandbox",
        "Open a sandbox; 200 with the one that `key` has, or that an earlier request made",
        {200: Sandbox, 201: Sandbox},
        NotFound,
        Conflict,
        QuotaExceeded,
        parameters=("Idempotency-Key",),
        request=SandboxRequest,
    ),
    _call(
        "GET /v1/sandboxes",
        "list_sandboxes",
        "The tenant's sandboxes, the newest first; `metadata.NAME=VALUE` filters by pairs",
        SandboxList,
        InvalidRequest,
        parameters=("state", "sandboxes_limit", "sandboxes_cursor"),
    ),
    _call(
        "GET /v1/sandboxes/events",
        "follow_sandboxes",
        "What happens to the tenant's sandboxes, as it happens",
        None,
        InvalidRequest,
        media=EVENTS,
        parameters=("Last-Event-ID",),
    ),
    _call(
        f"GET {ONE}",
        "read_sandbox",
        "A sandbox; one that ended says why for a day",
        Sandbox,
        NotFound,
    ),
    INSIDE(
        f"PATCH {ONE}",
        "update_sandbox",
        "Change limits, metadata, idle timeout, fate or network while it lives",
        Sandbox,
        request=SandboxUpdate,
    ),
    INSIDE(
        f"DELETE {ONE}",
        "kill_sandbox",
        "End a sandbox with everything in it; also one that has ended",
        Sandbox,
    ),
    INSIDE(
        f"POST {ONE}/extend",
        "extend_sandbox",
        "Its time to live starts again",
        Sandbox,
        request=ExtendRequest,
        optional=True,
    ),
    INSIDE(
        f"POST {ONE}/pause",
        "pause_sandbox",
        "Everything in it stands still, until a request needs it",
        Sandbox,
    ),
    INSIDE(f"POST {ONE}/resume", "resume_sandbox", "It goes on", Sandbox),
    INSIDE(
        f"POST {ONE}/snapshot",
        "snapshot_sandbox",
        "Its files become an image; processes are not part of it",
        Snapshotted,
        status=201,
        request=SnapshotRequest,
        optional=True,
    ),
    INSIDE(
        f"POST {ONE}/fork",
        "fork_sandbox",
        "New sandboxes with the files that this one has at one instant",
        Forked,
        QuotaExceeded,
        status=201,
        request=ForkRequest,
        optional=True,
    ),
    INSIDE(f"GET {ONE}/metrics", "sandbox_metrics", "What it uses now", Metrics),
    INSIDE(
        f"GET {ONE}/metrics/history",
        "sandbox_history",
        "What it has used over time, the newest hour or so",
        MetricsHistory,
        parameters=("after",),
    ),
    INSIDE(
        f"GET {ONE}/network",
        "sandbox_network",
        "What it asked of its network, the oldest first; as it happens for those who accept a stream",
        NetworkPage,
        parameters=("records_limit", "records_cursor"),
    ),
    INSIDE(
        f"GET {ONE}/metrics/stream",
        "follow_metrics",
        "What it uses, every `interval` seconds",
        media=EVENTS,
        parameters=("interval",),
    ),
    _call(
        f"GET {ONE}/events",
        "follow_sandbox",
        "What happened and happens to it, to its end",
        None,
        NotFound,
        InvalidRequest,
        media=EVENTS,
        parameters=("Last-Event-ID",),
    ),
)

_PROCESSES = (
    INSIDE(
        f"POST {ONE}/exec",
        "execute",
        "Run a command to its end; streams where `Accept` names NDJSON or server-sent events",
        CommandResult,
        request=CommandRequest,
    ),
    INSIDE(
        f"GET {ONE}/processes",
        "list_processes",
        "Those that run, and the last hundred that ended",
        ProcessList,
    ),
    INSIDE(
        f"POST {ONE}/processes",
        "start_process",
        "Start a command in the background",
        Process,
        status=201,
        request=CommandRequest,
    ),
    INSIDE(
        f"GET {_PROCESS}",
        "read_process",
        "A process; with `wait`, when it has ended or so many seconds have passed",
        Process,
        parameters=("wait",),
    ),
    INSIDE(
        f"GET {_PROCESS}/output",
        "follow_process",
        "Its output so far and to come, to its end",
        media=NDJSON,
        parameters=("history",),
    ),
    INSIDE(
        f"POST {_PROCESS}/signal",
        "signal_process",
        "Send a signal to it and its process group",
        Process,
        request=SignalRequest,
    ),
    INSIDE(
        f"POST {_PROCESS}/stdin",
        "stdin_process",
        "Write to its stdin, or close that",
        Process,
        request=InputRequest,
    ),
    INSIDE(
        f"POST {_PROCESS}/resize",
        "resize_process",
        "Another size of its terminal",
        Process,
        request=PtySize,
    ),
    INSIDE(
        f"GET {ONE}/ports/{{port}}",
        "read_port",
        "Whether a server listens inside; with `wait`, as soon as one does",
        PortState,
        parameters=("wait",),
    ),
    INSIDE(
        f"POST {ONE}/ports/{{port}}",
        "link_port",
        "A link that opens this port to whoever has it, until it expires",
        PortLink,
        status=201,
        request=LinkRequest,
        optional=True,
    ),
)

SANDBOX_OPERATIONS = (*_LIFE, *_PROCESSES)

SANDBOX_PARAMETERS: dict[str, dict[str, Any]] = {
    "sandbox": parameter("id", "path", pattern=SANDBOX_ID),
    "process": parameter("process", "path", pattern=PROCESS_ID),
    "port": number("port", "path", "", 1, 65_535),
    "state": parameter("state", "query", "Only those.", enum=["running", "paused", "ended"]),
    "sandboxes_limit": number("limit", "query", "Of one page.", 1, 200),
    "sandboxes_cursor": parameter("cursor", "query", "`next_cursor` of the page before."),
    "records_limit": number("limit", "query", "Of one page.", 1, 1_000),
    "records_cursor": parameter(
        "cursor", "query", "Where the page before ended.", pattern="^[0-9]{1,19}(-[0-9]{1,19})?$"
    ),
    "interval": number("interval", "query", "Seconds.", 1, 3600),
    "after": parameter("after", "query", "Only what is later.", format="date-time"),
    "wait": number("wait", "query", "Seconds.", 0, 3600),
    "history": flag("history", "First what is kept of the output so far."),
}
"""Key of an operation -> the parameter; the name in it is what is sent."""
