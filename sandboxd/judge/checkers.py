"""The built-in checkers: whether an output answers what was asked. Pure, and linear in the output.

They run in the node itself, so they only compare: nothing of the output is ever interpreted but as
words and numbers, and a number is a short word.
"""

import math
import re
from itertools import zip_longest

from msgspec import Struct

from sandboxd.model.judgement import Verdict
from sandboxd.model.submission import Builtin, Exact, Floats, Lines, SortedLines, Tokens

_SHOWN = 40
"""Characters of a word that a message shows."""
_NUMBER_MAX = 64
_NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?")


_SPACE = re.compile(rb"\s+")


class Checked(Struct, frozen=True):
    """What a checker found. `score` is a fraction of what the case is worth."""

    verdict: Verdict
    score: float
    message: str = ""


ACCEPTED = Checked(Verdict.ACCEPTED, 1.0)


def check(checker: Builtin, output: bytes, answer: bytes | None) -> Checked:
    """Compare `output` with `answer`; without an answer everything is right."""
    if answer is None:
        return ACCEPTED
    match checker:
        case Exact():
            return _exact(output, answer)
        case Lines():
            return _lines(lines(output), lines(answer))
        case SortedLines():
            return _lines(sorted(lines(output)), sorted(lines(answer)))
        case Tokens():
            return _words(checker, output, answer)
        case Floats():
            return _words(checker, output, answer)


def lines(text: bytes) -> list[bytes]:
    """Lines without white space at their ends; none that are empty at the end."""
    found = [line.rstrip() for line in text.rstrip().split(b"\n")]
    return found if found != [b""] else []


def _exact(output: bytes, answer: bytes) -> Checked:
    if output == answer:
        return ACCEPTED
    if output.split() == answer.split():
        return Checked(Verdict.PRESENTATION_ERROR, 0.0, "the words agree, the white space does not")
    return _wrong(f"differs at byte {_first_difference(output, answer)}")


def _first_difference(output: bytes, answer: bytes) -> int:
    """Of two texts that differ: by halves, since comparing slices is fast and bytes is not."""
    low, high = 0, min(len(output), len(answer))
    while low < high:
        middle = (low + high + 1) // 2
        if output[low:middle] == answer[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _lines(output: list[bytes], answer: list[bytes]) -> Checked:
    if output == answer:
        return ACCEPTED
    for number, (got, expected) in enumerate(zip_longest(output, answer), 1):
        if got != expected:
            return _wrong(f"line {number}: {_show(got)}, expected {_show(expected)}")
    return ACCEPTED


def _words(rule: Tokens | Floats, output: bytes, answer: bytes) -> Checked:
    if rule.space_sensitive:
        spaces = [found.group() for found in _SPACE.finditer(output)]
        expected_spaces = [found.group() for found in _SPACE.finditer(answer)]
        if spaces != expected_spaces:
            return _wrong("the white space differs")
    got_words, words = output.split(), answer.split()
    if got_words == words:
        return ACCEPTED
    for number, (got, expected) in enumerate(zip_longest(got_words, words), 1):
        if got is None or expected is None or not _agree(rule, got, expected):
            return _wrong(f"word {number}: {_show(got)}, expected {_show(expected)}")
    return ACCEPTED


def _agree(rule: Tokens | Floats, got: bytes, expected: bytes) -> bool:
    if got == expected or (not rule.case_sensitive and got.lower() == expected.lower()):
        return True
    if isinstance(rule, Tokens):
        return False
    number, wanted = _number(got), _number(expected)
    if number is None or wanted is None:
        return False
    distance = abs(number - wanted)
    return distance <= rule.absolute or distance <= rule.relative * abs(wanted)


def _number(word: bytes) -> float | None:
    """A finite decimal number; `nan` and `inf` are words like any other."""
    if len(word) > _NUMBER_MAX or not _NUMBER.fullmatch(word):
        return None
    value = float(word)
    return value if math.isfinite(value) else None


def _wrong(message: str) -> Checked:
    return Checked(Verdict.WRONG_ANSWER, 0.0, message)


def _show(word: bytes | None) -> str:
    if word is None:
        return "nothing"
    text = word[: _SHOWN * 4].decode(errors="replace")
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
