"""The tables of iptables, as steps that a worker process takes; see `xtables_worker`."""

import subprocess
import sys
from typing import Literal

import msgspec
from msgspec import Struct

from sandboxd.errors import DriverFault

Options = dict[str, str | list[str]]


class Part(Struct, frozen=True):
    """One `-m NAME --key value …` or `-j NAME …`; a key that begins with `!` is inverted."""

    name: str
    options: Options = {}


class Line(Struct, frozen=True):
    """One rule of one family."""

    target: Part
    matches: tuple[Part, ...] = ()
    source: str = ""
    destination: str = ""
    protocol: str = ""
    comment: str = ""


class Step(Struct, frozen=True):
    do: Literal["chain", "append", "insert", "delete", "drop", "remove"]
    """`chain` makes or empties one; `drop` takes one away; `remove` all that begin with the name."""
    chain: str
    lines: tuple[Line, ...] = ()


class Request(Struct, frozen=True):
    table: str
    steps: tuple[Step, ...] = ()
    count: str = ""
    """Count what the chains that begin with this have stopped."""


class Answer(Struct, frozen=True):
    error: str = ""
    packets: dict[str, int] = {}


class Tables:
    """The tables of one family in the network namespace of the thread that made this."""

    def __init__(self, version: int) -> None:
        """Raises DriverFault."""
        self.version = version
        try:
            self._worker = subprocess.Popen(
                [sys.executable, "-m", "sandboxd.drivers.network.xtables_worker", str(version)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        except OSError as error:
            raise DriverFault("network", "start iptables", str(error)) from error

    def change(self, table: str, steps: list[Step]) -> None:
        """Take the steps, all or none. Raises DriverFault."""
        self._ask(Request(table, tuple(steps)))

    def count(self, table: str, prefix: str) -> dict[str, int]:
        """Packets that rules of the chains that begin so have stopped, by the rule's comment."""
        return self._ask(Request(table, count=prefix)).packets

    def _ask(self, request: Request) -> Answer:
        assert self._worker.stdin is not None and self._worker.stdout is not None
        try:
            self._worker.stdin.write(msgspec.json.encode(request) + b"\n")
            self._worker.stdin.flush()
            text = self._worker.stdout.readline()
            answer = msgspec.json.decode(text, type=Answer)
        except (OSError, msgspec.DecodeError):
            raise DriverFault("network", f"iptables {request.table}", "it has ended") from None
        if answer.error:
            raise DriverFault("network", f"iptables {request.table}", answer.error)
        return answer

    def close(self) -> None:
        assert self._worker.stdin is not None and self._worker.stdout is not None
        self._worker.stdin.close()
        self._worker.stdout.close()
        self._worker.wait()
