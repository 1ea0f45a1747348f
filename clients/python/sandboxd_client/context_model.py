"""Contexts as the service describes them: interpreters that keep their state, and what code did there."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

ContextLanguage = Literal["python", "javascript", "bash", "r", "java"]
"""Those with an interpreter of the service's; others are kernelspecs of the image, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextInfo:
    id: str
    language: str
    cwd: str
    """Where it began."""
    started_at: str
    pid: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeValue:
    """A value in the formats that it has: the last expression's, or one that was displayed."""

    main: bool = False
    """It is the value of the last expression."""
    text: str | None = None
    html: str | None = None
    markdown: str | None = None
    svg: str | None = None
    png: bytes | None = None
    jpeg: bytes | None = None
    pdf: bytes | None = None
    latex: str | None = None
    json: Any = None
    javascript: str | None = None
    data: Mapping[str, Any] | None = None
    """Columns of a data frame."""
    chart: Mapping[str, Any] | None = None
    """What a figure shows: `type`, `title`, `elements`, and more as its type has it."""
    extra: Mapping[str, Any]
    """Other formats, by MIME type."""
    truncated: tuple[str, ...] = ()
    """Formats that were too large: left out, or (`text`) cut."""

    @property
    def formats(self) -> tuple[str, ...]:
        """Names of the formats that are there."""
        names = [each.name for each in fields(self) if each.name not in _NO_FORMATS]
        return (*(name for name in names if getattr(self, name) is not None), *self.extra)


_NO_FORMATS = ("main", "extra", "truncated")
_BYTES = ("png", "jpeg", "pdf")


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeError:
    """The exception with which code ended."""

    name: str
    value: str
    traceback: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeResult:
    """What came of a piece of code."""

    status: Literal["ok", "error", "interrupted", "timed_out", "died", "lost"]
    detail: str
    """Why, where the interpreter ended."""
    execution_count: int | None
    stdout: str
    stderr: str
    values: tuple[CodeValue, ...]
    error: CodeError | None
    truncated: bool
    """Some of it was too much, and is not here."""

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    @property
    def value(self) -> CodeValue | None:
        """Of the last expression."""
        return next((value for value in self.values if value.main), None)

    @property
    def text(self) -> str | None:
        """Of the last expression's value."""
        return self.value.text if self.value is not None else None


def context_of(document: Mapping[str, Any]) -> ContextInfo:
    return ContextInfo(
        id=document["id"],
        language=document["language"],
        cwd=document.get("cwd", ""),
        started_at=document.get("started_at", ""),
        pid=document.get("pid"),
    )


def value_of(document: Mapping[str, Any]) -> CodeValue:
    known = {each.name for each in fields(CodeValue)}
    found = {name: value for name, value in document.items() if name in known}
    for name in _BYTES:
        if name in found:
            found[name] = base64.b64decode(found[name])
    found["extra"] = dict(document.get("extra", {}))
    found["truncated"] = tuple(document.get("truncated", ()))
    return CodeValue(**found)


def error_of(document: Mapping[str, Any]) -> CodeError:
    return CodeError(
        name=document["name"], value=document["value"], traceback=document["traceback"]
    )


def code_result_of(document: Mapping[str, Any]) -> CodeResult:
    get = document.get
    raised = get("exception")
    return CodeResult(
        status=document["status"],
        detail=get("detail", ""),
        execution_count=get("execution_count"),
        stdout=get("stdout", ""),
        stderr=get("stderr", ""),
        values=tuple(value_of(each) for each in get("results", ())),
        error=None if raised is None else error_of(raised),
        truncated=get("truncated", False),
    )
