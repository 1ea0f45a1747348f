"""How checkers and interactors of one's own are called, and what their ends mean. Pure.

testlib (Codeforces, Polygon) and the output validators of the ICPC/Kattis problem package format.
"""

import math
import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from sandboxd.judge.checkers import ACCEPTED, Checked
from sandboxd.model.judgement import Verdict
from sandboxd.model.status import Status
from sandboxd.model.submission import Program

INPUT, OUTPUT, ANSWER = "judge/input", "judge/output", "judge/answer"
FEEDBACK = "judge/feedback/"
_PLACEHOLDER = FEEDBACK + ".judge"
"""A directory exists in a sandbox if a file in it does."""
_MESSAGE = ("judgemessage.txt", "teammessage.txt")
_SCORES = ("score.txt", "score_multiplier.txt")
_MESSAGE_MAX = 4_096
_FIELD_MAX = 64

_TESTLIB = {
    0: Verdict.ACCEPTED,
    1: Verdict.WRONG_ANSWER,
    2: Verdict.PRESENTATION_ERROR,
    4: Verdict.PRESENTATION_ERROR,  # _dirt: more output than the checker read
    8: Verdict.PRESENTATION_ERROR,  # _unexpected_eof
}
_TESTLIB_POINTS = 7
_ACCEPTED, _REJECTED = 42, 43
_POINTS = re.compile(r"points\s+([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)")


class Call(Struct, frozen=True, kw_only=True):
    """One call of a judging program."""

    args: list[str]
    files: list[tuple[str, bytes]]
    """Path below /work and content."""
    stdin: bytes = b""
    collect: list[str] = []


class Reply(Struct, frozen=True, kw_only=True):
    """How that program ended."""

    status: Status
    exit_code: int | None
    stderr: bytes = b""
    files: Mapping[str, bytes] = {}


def call_checker(
    program: Program, stdin: bytes, output: bytes, answer: bytes, extra: Sequence[str] = ()
) -> Call:
    """Judge `output`, which a program gave for `stdin`."""
    files = [(INPUT, stdin), (ANSWER, answer)]
    args = [*program.args, *extra]
    if program.convention == "testlib":
        files.append((OUTPUT, output))
        return Call(args=[INPUT, OUTPUT, ANSWER, *args], files=files)
    return _icpc(files, args, output)


def call_interactor(
    program: Program, stdin: bytes, answer: bytes, extra: Sequence[str] = ()
) -> Call:
    """Talk to a program about `stdin`; the streams are the program's."""
    files = [(INPUT, stdin), (ANSWER, answer)]
    args = [*program.args, *extra]
    if program.convention == "testlib":
        return Call(args=[INPUT, OUTPUT, ANSWER, *args], files=files, collect=[OUTPUT])
    return _icpc(files, args, b"")


def _icpc(files: list[tuple[str, bytes]], args: list[str], output: bytes) -> Call:
    return Call(
        args=[INPUT, ANSWER, FEEDBACK, *args],
        files=[*files, (_PLACEHOLDER, b"")],
        stdin=output,
        collect=[FEEDBACK + name for name in (*_MESSAGE, *_SCORES)],
    )


def read(program: Program, reply: Reply, points: float = 1.0) -> Checked:
    """The verdict of a judging program. A case's worth, `points`, turns its scores into fractions.

    Whatever a program does that its convention does not foresee is an internal error: a checker that
    crashes or hangs says nothing about the program that it judges.
    """
    if reply.status not in (Status.OK, Status.NONZERO_EXIT) or reply.exit_code is None:
        return _failed(f"{_kind(program)} ended with {reply.status}", reply)
    if program.convention == "testlib":
        return _read_testlib(program, reply, reply.exit_code)
    return _read_icpc(program, reply, reply.exit_code, points)


def _read_testlib(program: Program, reply: Reply, code: int) -> Checked:
    message = _text(reply.stderr)
    if code == _TESTLIB_POINTS:
        found = _POINTS.search(message)
        score = _number(found[1]) if found else None
        if score is None or not 0.0 <= score <= 1.0:
            return _failed("exit code 7 without `points` between 0 and 1", reply)
        return Checked(_partial(score), score, message)
    verdict = _TESTLIB.get(code)
    if verdict is None:
        return _failed(f"{_kind(program)} ended with exit code {code}", reply)
    return Checked(verdict, ACCEPTED.score if verdict is Verdict.ACCEPTED else 0.0, message)


def _read_icpc(program: Program, reply: Reply, code: int, points: float) -> Checked:
    message = _text(
        next((reply.files[p] for p in map(_feedback, _MESSAGE) if p in reply.files), b"")
    )
    if code == _REJECTED:
        return Checked(Verdict.WRONG_ANSWER, 0.0, message)
    if code != _ACCEPTED:
        return _failed(f"{_kind(program)} ended with exit code {code}", reply)
    for name in _SCORES:
        data = reply.files.get(_feedback(name))
        if data is None:
            continue
        score = _number(data[:_FIELD_MAX].decode(errors="replace").strip())
        if score is None or score < 0:
            return _failed(f"{name} is not a score", reply)
        if program.scoring and name == "score.txt":
            score = score / points if points else 0.0
        return Checked(_partial(score), score, message)
    return Checked(Verdict.ACCEPTED, 1.0, message)


def _partial(score: float) -> Verdict:
    """Points below the full ones: accepted in part is not accepted."""
    return Verdict.ACCEPTED if score >= 1.0 else Verdict.WRONG_ANSWER


def _feedback(name: str) -> str:
    return FEEDBACK + name


def _kind(program: Program) -> str:
    return f"the {program.convention} program"


def _failed(why: str, reply: Reply) -> Checked:
    said = _text(reply.stderr)
    return Checked(Verdict.INTERNAL_ERROR, 0.0, f"{why}: {said}" if said else why)


def _text(data: bytes) -> str:
    return data[:_MESSAGE_MAX].decode(errors="replace").strip()


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
