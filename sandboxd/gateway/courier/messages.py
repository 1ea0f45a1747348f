"""What is said to a webhook's address: as Standard Webhooks have it, or as Judge0 does."""

import time

import msgspec
from msgspec import Struct

from sandboxd.gateway.adapters import judge0_tables as tables
from sandboxd.gateway.adapters.judge0_runs import averaged
from sandboxd.gateway.adapters.judge0_words import Attributes, shown, status_of
from sandboxd.gateway.courier.signing import signed
from sandboxd.gateway.ids import is_run_id
from sandboxd.gateway.webhooks import Hook, Judge0Callback
from sandboxd.judge.answers import judged
from sandboxd.model import Result
from sandboxd.model.session_event import SandboxEvent, placed

_attributes = msgspec.json.Decoder(Attributes)


class Message(Struct, frozen=True, kw_only=True):
    method: str
    headers: dict[str, str]
    body: bytes
    any_answer: bool = False
    """It has been delivered once there is an answer, whatever that says."""
    timeout: float
    """Seconds."""
    tries: int


def finished(name: str, result: Result) -> dict[str, object]:
    if is_run_id(name):
        return {"type": "run.finished", "data": result}
    return {"type": "submission.finished", "data": judged(result)}


def happened(event: SandboxEvent) -> dict[str, object]:
    return {"type": f"sandbox.{event.type}", "data": placed(event)}


def standard(
    hook: Hook, name: str, told: dict[str, object], *, timeout: float, tries: int
) -> Message:
    body = msgspec.json.encode(told)
    headers = signed(hook.callback.secret, name, int(time.time()), body)
    return Message(method="POST", headers=headers, body=body, timeout=timeout, tries=tries)


def judge0_status(note: bytes, result: Result) -> int:
    """Judge0's id of how a submission ended."""
    return status_of(_attributes.decode(note), averaged(result), None)


def judge0(callback: Judge0Callback, note: bytes, result: Result) -> Message:
    """The default fields in base64, unsigned; only a failure of the connection is tried again."""
    document = shown(
        callback.token, _attributes.decode(note), averaged(result), None, True, tables.fields(None)
    )
    return Message(
        method="PUT",
        headers={},
        body=msgspec.json.encode(document),
        any_answer=True,
        timeout=tables.CALLBACK_TIMEOUT,
        tries=tables.CALLBACK_TRIES,
    )
