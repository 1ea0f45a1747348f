"""What a case of the matrix is: a request as it goes over the wire and the answer that is right.

Cases are data. `expectation.py` words the usual ends, `compare.py` says how an answer differs.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

UNSAID: Literal["unsaid"] = "unsaid"
"""The case promises nothing about this field (None is a promise: the field is null)."""

Range = tuple[float, float]
"""Lowest and highest right value; wide, since they catch wrong accounting, not slow machines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """The right answer. A field left alone is not checked, but truncation is false unless said."""

    status: str
    exit_code: int | str | None = UNSAID
    signal: str | None = UNSAID
    stdout: bytes | None = None
    stdout_len: int | None = None
    stdout_has: tuple[bytes, ...] = ()
    stdout_number: Range | None = None
    """stdout is one decimal number within this range."""
    stdout_truncated: bool = False
    stderr: bytes | None = None
    stderr_len: int | None = None
    stderr_has: tuple[bytes, ...] = ()
    stderr_truncated: bool = False
    encoding: str | None = None
    cpu_time: Range | None = None
    wall_time: Range | None = None
    peak_memory: Range | None = None
    compile: "Expect | None" = None
    files: dict[str, bytes] = field(default_factory=dict)
    file_errors: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of a file asked for, and the errors of which one is right."""


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    promise: str
    request: dict[str, Any]
    """Body of `POST /v1/runs`."""
    expect: Expect

    @property
    def language(self) -> str | None:
        """The language that the node must offer, or None."""
        language: str | None = self.request.get("language")
        return language


def c(source: str, **request: Any) -> dict[str, Any]:
    return {"language": "c", "source": source, **request}


def python(source: str, **request: Any) -> dict[str, Any]:
    return {"language": "python", "source": source, **request}


def bash(source: str, **request: Any) -> dict[str, Any]:
    return {"language": "bash", "source": source, **request}
