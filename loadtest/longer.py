"""Jobs of a scenario that are more than one run: submissions, and sandboxes that live."""

from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from loadtest.job import Expectation, OneShot, Wire, excerpt
from loadtest.measurement import Failure


class _Judged(Struct):
    verdict: str | None = None


def submission(name: str, body: dict[str, Any], expect: Expectation) -> OneShot:
    """One that is waited for. `body` is that of `POST /v1/submissions`."""
    return OneShot(
        name=name,
        target="/v1/submissions",
        body=msgspec.json.encode(body),
        check=partial(_judged, expect),
    )


def _judged(expect: Expectation, status: int, body: bytes) -> Failure | None:
    if status != expect.http:
        return Failure(f"http_{status}", excerpt(body))
    if status != 200:
        return None
    try:
        found = msgspec.json.decode(body, type=_Judged).verdict
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Failure("malformed", f"{error}: {excerpt(body)}")
    return None if found == expect.verdict else Failure(f"verdict_{found}", excerpt(body))


class Session(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client does with a sandbox of its own."""

    create: dict[str, Any] = {}
    """Body of `POST /v1/sandboxes`."""
    commands: Annotated[list[list[str]], Meta(min_length=1)]
    """One after the other; each must end with 0."""


class _Made(Struct):
    id: str


class _Process(Struct):
    exit_code: int | None = None


class _Executed(Struct):
    process: _Process


class Sitting(Struct, frozen=True, kw_only=True):
    """A sandbox created, its commands, its removal: one job, right if every step was."""

    name: str
    session: Session

    async def run(self, wire: Wire) -> Failure | None:
        status, body = await wire.ask(
            "POST", "/v1/sandboxes", msgspec.json.encode(self.session.create)
        )
        if status != 201:
            return Failure(f"create_http_{status}", excerpt(body))
        sandbox = f"/v1/sandboxes/{msgspec.json.decode(body, type=_Made).id}"
        failure = await self._commands(wire, sandbox)
        # Also after a command that failed: what a client leaves open counts against its quota.
        status, body = await wire.ask("DELETE", sandbox)
        if failure is None and status not in (200, 204):
            return Failure(f"delete_http_{status}", excerpt(body))
        return failure

    async def _commands(self, wire: Wire, sandbox: str) -> Failure | None:
        for command in self.session.commands:
            status, body = await wire.ask(
                "POST", f"{sandbox}/exec", msgspec.json.encode({"command": command})
            )
            if status != 200:
                return Failure(f"exec_http_{status}", excerpt(body))
            if msgspec.json.decode(body, type=_Executed).process.exit_code != 0:
                return Failure("wrong_exit_code", excerpt(body))
        return None
