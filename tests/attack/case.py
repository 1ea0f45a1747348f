"""What a case of the attack suite is, and how it is judged.

A case is data with one verb, `run`, which uses the arena and gives a finding. `HELD` needs two things:
the attack failed inside as the policy says, and the same probe outside did otherwise. Where it did
not, the case proves nothing here and is `VACUOUS`, with the reason.
"""

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

Body = dict[str, Any]
Lines = Mapping[str, str]
"""What a probe said: key and value."""


class Outcome(StrEnum):
    HELD = "held"
    VACUOUS = "vacuous"
    BROKEN = "broken"
    OPEN = "open"
    """Known, and said to be so in SECURITY.md."""


@dataclass(frozen=True, slots=True)
class Finding:
    outcome: Outcome
    reason: str = ""


HELD = Finding(Outcome.HELD)


def broken(reason: str) -> Finding:
    return Finding(Outcome.BROKEN, reason)


def vacuous(reason: str) -> Finding:
    return Finding(Outcome.VACUOUS, reason)


def known(reason: str) -> Finding:
    return Finding(Outcome.OPEN, reason)


class Arena(Protocol):
    """Where cases are fought out: a service, the outside, and the host's eyes."""

    word: str
    """Names what this suite makes."""

    def run(self, body: Body) -> dict[str, Any]:
        """The result of one run. Raises AssertionError if there is none."""

    def post(self, content: bytes, content_type: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON of any request body."""

    def outside(self, argv: tuple[str, ...], *, network: bool = True, pids: bool = True) -> Lines:
        """What the probe says as root in namespaces of its own, without any of our layers."""

    def verdict(self, number: int, args: list[int]) -> str:
        """What the policy answers: `allow`, `kill`, `ok` or the name of an errno."""

    def poised(self, word: str, body: Body) -> "Poised":
        """Start a run whose process stops itself, and wait for that."""


class Poised(Protocol):
    """A run that waits for us, found by a word in its arguments."""

    def caps(self) -> dict[str, int]:
        """Its control group's limits as the host reads them: memory, pids, cpu."""

    def release(self) -> None: ...

    def result(self) -> dict[str, Any]: ...


class Case(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def theme(self) -> str: ...

    @property
    def promise(self) -> str: ...

    def run(self, arena: Arena) -> Finding: ...


def command(*argv: str, **more: Any) -> Body:
    return {"template": "default", "command": list(argv), **more}


def probe(*argv: str, **more: Any) -> Body:
    return command("/opt/attack/probe", *argv, **more)


def errno_name(value: str) -> str:
    """`EPERM` for `errno 1`; other values as they are."""
    if not value.startswith("errno "):
        return value
    number = int(value.removeprefix("errno "))
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else errno.errorcode.get(number, value)
