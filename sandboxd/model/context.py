"""Contexts: interpreters in an open sandbox that keep their state from one piece of code to the next.

What code does is told as events, in the order in which it happened: `started`, any number of `stdout`,
`stderr`, `result` and `exception`, then `end`. Everything in them but `missed` and some ends is what a
program inside says: it is bounded, and no more to be believed than its output.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from sandboxd.model.run import Arg

CODE_MAX = 1 << 20
"""Characters of one piece of code."""


class ContextLanguage(StrEnum):
    """Those with an interpreter of ours; any other is the name of a kernelspec of the image."""

    PYTHON = "python"
    JAVASCRIPT = "javascript"
    BASH = "bash"
    R = "r"
    JAVA = "java"


LANGUAGE = r"[A-Za-z0-9][A-Za-z0-9._-]{0,24}"
"""Also of a kernelspec. Shorter than what is random in an id."""


def default_context_id(language: str) -> str:
    """Of the context that a language has in each sandbox; it is started when it is needed."""
    return f"ctx_{language}"


class ContextRequest(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Body of `POST /v1/sandboxes/{id}/contexts`."""

    language: Annotated[str, Meta(pattern=f"^{LANGUAGE}$")] = ContextLanguage.PYTHON
    cwd: Annotated[str, Meta(max_length=4096)] = "/work"
    env: Annotated[dict[str, Arg], Meta(max_length=256)] = {}
    """Besides the sandbox's own."""


class Context(Struct, frozen=True, kw_only=True):
    id: str
    """`ctx_` and something random; `ctx_` and a language is that language's default context."""
    language: str
    cwd: str
    """Where it began."""
    started_at: str
    pid: int | None = None


class ContextList(Struct, frozen=True, kw_only=True):
    contexts: list[Context]
    """Those that live, the oldest first."""


class CodeRequest(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Body of `POST /v1/sandboxes/{id}/contexts/{context}/run`."""

    code: Annotated[str, Meta(max_length=CODE_MAX)]
    env: Annotated[dict[str, Arg], Meta(max_length=256)] = {}
    """For this piece of code alone."""
    timeout: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    """Seconds after which it is interrupted."""


class _Event(Struct, kw_only=True, omit_defaults=True, tag_field="type"):
    run: str | None = None
    """Of which run: between kernel and gateway only."""


class Started(_Event, kw_only=True, tag="started"):
    execution_count: int


class Stdout(_Event, kw_only=True, tag="stdout"):
    text: str
    time: float = 0.0
    """Seconds since the epoch."""


class Stderr(_Event, kw_only=True, tag="stderr"):
    text: str
    time: float = 0.0


class Shown(_Event, kw_only=True, tag="result"):
    """A value in the formats that it has: the last expression's, or one that was displayed."""

    main: bool = False
    """It is the value of the last expression."""
    text: str | None = None
    html: str | None = None
    markdown: str | None = None
    svg: str | None = None
    png: str | None = None
    """Base64, as `jpeg` and `pdf`."""
    jpeg: str | None = None
    pdf: str | None = None
    latex: str | None = None
    json: Any = None
    javascript: str | None = None
    data: dict[str, Any] | None = None
    """Of a data frame: its columns, at most 10,000 rows."""
    chart: dict[str, Any] | None = None
    """What a figure shows: `type`, `title`, `elements` and what its type has besides."""
    extra: dict[str, Any] = {}
    """Other formats, by MIME type."""
    truncated: list[str] = []
    """Formats that were too large: left out, or (`text`) cut."""


class Raised(_Event, kw_only=True, tag="exception"):
    """Code ended by an exception, or what stands for one in its language."""

    name: str
    value: str
    traceback: str


class Omitted(_Event, kw_only=True, tag="missed"):
    """Some events are not coming: another client watches as well and this one was too slow, or an
    event was larger than any may be."""


class EndStatus(StrEnum):
    OK = "ok"
    ERROR = "error"
    INTERRUPTED = "interrupted"
    TIMED_OUT = "timed_out"
    DIED = "died"
    """The interpreter ended with it: by its own will, by a signal, for want of memory."""
    LOST = "lost"
    """How it ended was among what was missed."""


class Ended(_Event, kw_only=True, tag="end"):
    """The last event."""

    of: str | None = None
    status: EndStatus
    detail: str = ""


class Configured(_Event, kw_only=True, tag="configured"):
    """Said to the gateway alone: the context is ready."""


class Refused(_Event, kw_only=True, tag="refused"):
    """Said to the gateway alone: it cannot be."""

    reason: Literal["no_ipython", "no_interpreter", "bad_cwd"]
    detail: str


CodeEvent = Started | Stdout | Stderr | Shown | Raised | Omitted | Ended
KernelEvent = CodeEvent | Configured | Refused


class CodeResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `…/run` for a client that takes no stream: all events put together."""

    status: EndStatus
    detail: str = ""
    execution_count: int | None = None
    stdout: str = ""
    stderr: str = ""
    results: list[Shown] = []
    exception: Raised | None = None
    truncated: bool = False
    """Of output the newest 1 MiB each is here, of results the first 16 MiB."""
