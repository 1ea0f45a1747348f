"""A Judge0 submission in our words, and its result in Judge0's. Pure."""

import base64
import binascii
from typing import Any

from msgspec import Struct

from sandboxd.gateway.adapters import judge0_tables as tables
from sandboxd.gateway.adapters.jobs import stream
from sandboxd.judge.checkers import lines
from sandboxd.model import Result, RunState, Status
from sandboxd.policy import Policies

_LINE = 60
_URL_MAX = 2_048
_TEXTS = ("source_code", "stdin", "expected_output")


class Invalid(Exception):
    """What is wrong, by field, as Rails says it."""

    def __init__(self, errors: dict[str, list[str]]) -> None:
        super().__init__(str(errors))
        self.errors = errors


class Attributes(Struct, frozen=True, kw_only=True):
    """A submission as it was asked for; texts as base64, since they may be any bytes."""

    source_code: str | None = None
    language_id: int
    stdin: str | None = None
    expected_output: str | None = None
    compiler_options: str | None = None
    command_line_arguments: str | None = None
    additional_files: str | None = None
    redirect_stderr_to_stdout: bool = False
    number_of_runs: int = 1
    callback_url: str | None = None
    limits: dict[str, float] = {}
    run: str = ""
    created_at: str = ""


def attributes(body: object, encoded: bool, policies: Policies) -> Attributes:
    """Raises Invalid."""
    if not isinstance(body, dict):
        raise Invalid({"language_id": ["can't be blank"]})
    errors = _refusals(body, policies)
    texts = {name: _text(body.get(name), encoded, name, errors) for name in _TEXTS}
    limits = _limits(body, policies, errors)
    if errors:
        raise Invalid(errors)
    return Attributes(
        source_code=texts["source_code"],
        stdin=texts["stdin"],
        expected_output=texts["expected_output"],
        language_id=_integer(body["language_id"]),
        compiler_options=body.get("compiler_options") or None,
        command_line_arguments=body.get("command_line_arguments") or None,
        additional_files=body.get("additional_files") or None,
        redirect_stderr_to_stdout=bool(body.get("redirect_stderr_to_stdout")),
        number_of_runs=_integer(body.get("number_of_runs") or 1),
        callback_url=str(body["callback_url"]) if body.get("callback_url") else None,
        limits=limits,
    )


def _refusals(body: dict[str, Any], policies: Policies) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    language_id = body.get("language_id")
    if language_id is None:
        errors["language_id"] = ["can't be blank"]
    elif not tables.is_known(policies, _integer(language_id)):
        errors["language_id"] = [f"language with id {language_id} doesn't exist"]
    whole = "additional_files" if _integer(language_id) == tables.MULTI_FILE else "source_code"
    if body.get(whole) in (None, ""):
        errors[whole] = ["can't be blank"]
    if body.get("enable_network"):
        errors["enable_network"] = ["enabling network access is not allowed"]
    if len(str(body.get("callback_url") or "")) > _URL_MAX:
        errors["callback_url"] = [f"is too long (maximum is {_URL_MAX} characters)"]
    runs = _integer(body.get("number_of_runs") or 1)
    if runs < 1:
        errors["number_of_runs"] = ["must be greater than or equal to 1"]
    elif runs > tables.RUNS_MAX:
        errors["number_of_runs"] = [f"must be less than or equal to {tables.RUNS_MAX}"]
    for name in ("compiler_options", "command_line_arguments"):
        if len(str(body.get(name) or "")) > 512:
            errors[name] = ["is too long (maximum is 512 characters)"]
    return errors


def _integer(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return -1


def _text(value: Any, encoded: bool, name: str, errors: dict[str, list[str]]) -> str | None:
    """As base64. Ruby's decoder takes white space and missing padding; so do we."""
    if value is None:
        return None
    text = str(value)
    if not encoded:
        return base64.b64encode(text.encode(errors="replace")).decode()
    compact = "".join(text.split())
    try:
        data = base64.b64decode(compact + "=" * (-len(compact) % 4))
    except binascii.Error:
        errors[name] = ["is not base64"]
        return None
    return base64.b64encode(data).decode()


def _limits(
    body: dict[str, Any], policies: Policies, errors: dict[str, list[str]]
) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, (least, most) in tables.bounds(policies).items():
        value = body.get(name)
        if value is None:
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            errors[name] = ["is not a number"]
            continue
        if number < least:
            errors[name] = [f"must be greater than or equal to {least:g}"]
        elif number > most:
            errors[name] = [f"must be less than or equal to {most:g}"]
        found[name] = number
    return found


def status_of(attrs: Attributes, result: Result | None, state: RunState | None) -> int:
    """See docs/judges.md for what Judge0 has no word for."""
    if result is None:
        return tables.PROCESSING if state is RunState.STARTED else tables.IN_QUEUE
    if result.status is not Status.OK:
        return tables.failure(result)
    if attrs.expected_output is None:
        return tables.ACCEPTED
    expected = lines(base64.b64decode(attrs.expected_output))
    return tables.ACCEPTED if lines(stream(result, "stdout")) == expected else tables.WRONG_ANSWER


def shown(
    token: str,
    attrs: Attributes,
    result: Result | None,
    state: RunState | None,
    encoded: bool,
    fields: tuple[str, ...],
) -> dict[str, Any]:
    """The fields that were asked for; texts as base64 in lines of 60, if it was asked for."""
    status = status_of(attrs, result, state)
    ran = result is not None and (result.compile is None or result.compile.status is Status.OK)
    texts: dict[str, bytes | None] = {
        "source_code": _raw(attrs.source_code),
        "stdin": _raw(attrs.stdin),
        "expected_output": _raw(attrs.expected_output),
        "stdout": stream(result, "stdout") or None if result is not None else None,
        "stderr": stream(result, "stderr") or None if result is not None else None,
        "compile_output": _compiler(result),
        "message": tables.message(result).encode() or None if result is not None else None,
    }
    if attrs.redirect_stderr_to_stdout and texts["stderr"]:
        texts["stdout"] = (texts["stdout"] or b"") + (texts["stderr"] or b"")
        texts["stderr"] = None
    values: dict[str, Any] = {
        **tables.asked_limits(attrs.limits),
        **{name: _written(data, encoded) for name, data in texts.items()},
        "token": token,
        "language_id": attrs.language_id,
        "language": {"id": attrs.language_id, "name": tables.NAMES.get(attrs.language_id, "")},
        "status_id": status,
        "status": {"id": status, "description": tables.STATUSES[status]},
        "created_at": attrs.created_at,
        "queued_at": attrs.created_at,
        "started_at": result.started_at if result is not None else None,
        "finished_at": result.finished_at if result is not None else None,
        "updated_at": (result.finished_at if result is not None else None) or attrs.created_at,
        "time": f"{result.cpu_time:.3f}" if ran and result is not None else None,
        "wall_time": f"{result.wall_time:.3f}" if ran and result is not None else None,
        "memory": result.peak_memory // 1024 if ran and result is not None else None,
        "exit_code": result.exit_code if ran and result is not None else None,
        "exit_signal": tables.SIGNALS.get(result.signal or "") if result is not None else None,
        "number_of_runs": attrs.number_of_runs,
        "compiler_options": attrs.compiler_options,
        "command_line_arguments": attrs.command_line_arguments,
        "redirect_stderr_to_stdout": attrs.redirect_stderr_to_stdout,
        "callback_url": attrs.callback_url,
        "additional_files": attrs.additional_files,
        "enable_network": False,
        "queue_host": None,
        "execution_host": result.node if result is not None else None,
    }
    return {name: values[name] for name in fields}


def _compiler(result: Result | None) -> bytes | None:
    if result is None or result.compile is None:
        return None
    return stream(result.compile, "stdout") + stream(result.compile, "stderr") or None


def _raw(text: str | None) -> bytes | None:
    return base64.b64decode(text) if text is not None else None


def _written(data: bytes | None, encoded: bool) -> str | None:
    if data is None:
        return None
    if not encoded:
        return data.decode(errors="surrogateescape")
    text = base64.b64encode(data).decode()
    return "".join(text[at : at + _LINE] + "\n" for at in range(0, len(text), _LINE))
