"""How a warm run's answer differs from a cold one's: a list of sentences, empty if it does not."""

import difflib
from typing import Any

from tests.matrix.compare import stream
from tests.warm.script import Script

ENDS = (
    "status",
    "exit_code",
    "signal",
    "stdout_truncated",
    "stderr_truncated",
    "reason",
    "isolation",
)
SHOWN = 40
"""Lines of a difference that a message quotes."""

Answer = dict[str, Any]


def differences(script: Script, warm: Answer, cold: Answer) -> list[str]:
    """What differs, the random streams of a script that says so aside."""
    if "status" not in cold or "id" not in cold:
        return ["it is no answer of a run"] if warm.get("code") != cold.get("code") else []
    found = [
        f"{name} is {warm[name]!r} warm, {cold[name]!r} cold"
        for name in ENDS
        if warm[name] != cold[name]
    ]
    if not (script.random or script.shared):
        found += _stream(script, "stdout", warm, cold) + _stream(script, "stderr", warm, cold)
    return found


def check_equal(script: Script, warm: Answer, cold: Answer) -> None:
    """Raises AssertionError, with what differs, unless a sound script ended alike both ways."""
    assert mistake(script, cold) is None
    found = differences(script, warm, cold)
    assert not found, "\n".join(found)


def check_different(warm: Answer, cold: Answer) -> None:
    """Raises AssertionError unless a documented difference is there."""
    assert warm["status"] == cold["status"] == "ok"
    assert warm["stdout"] != cold["stdout"]


def mistake(script: Script, cold: Answer) -> str | None:
    """Why the script proves nothing: its cold run did not end as it should."""
    if script.status == "*" or cold.get("status") == script.status:
        return None
    return f"a cold run ends {cold.get('status')}, not {script.status}:\n{cold.get('stderr', cold)}"


def _stream(script: Script, name: str, warm: Answer, cold: Answer) -> list[str]:
    got, right = (script.normalised(stream(answer, name)) for answer in (warm, cold))
    if got == right:
        return []
    lines = difflib.unified_diff(
        right.decode(errors="backslashreplace").splitlines(),
        got.decode(errors="backslashreplace").splitlines(),
        f"{name} cold",
        f"{name} warm",
        lineterm="",
        n=1,
    )
    return [line[:400] for line in lines][:SHOWN] or [f"{name} differs in the ends of its lines"]
