"""`.dockerignore`: which paths of a context are left out. Pure.

Patterns are a stranger's, so they are not made into regular expressions, whose time can grow without
bound: a wildcard goes back to the last star only, which is enough, and costs the product of both lengths.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S")
_RULES_MAX = 10_000


class Ignored:
    def __init__(self, lines: Iterable[str]) -> None:
        """Patterns as Docker has them: `#` comments, `!` exceptions, `**`, the last match decides."""
        self._rules: list[tuple[bool, list[str]]] = []
        for line in lines:
            text = line.strip()
            if not text or text.startswith("#") or len(self._rules) == _RULES_MAX:
                continue
            keep = text.startswith("!")
            parts = [part for part in text.removeprefix("!").strip().split("/") if part]
            parts = [part for part in parts if part != "."]
            if parts and ".." not in parts:
                self._rules.append((keep, parts))
        self.exceptions = any(keep for keep, _ in self._rules)
        """Something below an ignored directory may be wanted."""

    def __call__(self, path: str) -> bool:
        """Whether `path`, relative to the context, is left out."""
        names = path.split("/")
        ignored = False
        for keep, parts in self._rules:
            if ignored is keep and _covers(parts, names):
                ignored = not keep
        return ignored


def matches(pattern: str, name: str) -> bool:
    """Whether a name of one path component fits a pattern of `*`, `?` and `[…]`."""
    return _wild(_pieces(pattern), name, lambda piece: piece == "*", _fits)


def _covers(parts: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a path fits, or lies below one that does."""
    if parts[-1] == "**":
        parts, least = parts[:-1], 1  # what is below, and not the directory itself
    else:
        least = 0
    return any(
        _wild(parts, names[:length], lambda part: part == "**", matches)
        for length in range(0 if least else 1, len(names) + 1 - least)
    )


def _wild(
    pattern: Sequence[T],
    items: Sequence[S],
    star: Callable[[T], bool],
    fits: Callable[[T, S], bool],
) -> bool:
    """Whether all items fit the pattern, in which a star stands for any number of them."""
    at = done = 0
    last, retry = -1, 0
    while done < len(items):
        if at < len(pattern) and star(pattern[at]):
            last, retry = at, done
            at += 1
        elif at < len(pattern) and fits(pattern[at], items[done]):
            at += 1
            done += 1
        elif last >= 0:
            retry += 1
            at, done = last + 1, retry
        else:
            return False
    return all(star(part) for part in pattern[at:])


def _pieces(pattern: str) -> list[str]:
    """Single characters, `\\x` for a literal one, `[…]` for a class."""
    pieces, at = [], 0
    while at < len(pattern):
        end = at + 1
        if pattern[at] == "\\" and end < len(pattern):
            end += 1
        elif pattern[at] == "[" and (close := pattern.find("]", at + 2)) > 0:
            end = close + 1
        pieces.append(pattern[at:end])
        at = end
    return pieces


def _fits(piece: str, char: str) -> bool:
    if piece == "?":
        return True
    if len(piece) == 1:
        return piece == char
    if piece[0] == "\\":
        return piece[1] == char
    inside = piece[1:-1]
    negated = inside[0] in "^!" and len(inside) > 1
    return _in_class(inside[1:] if negated else inside, char) is not negated


def _in_class(inside: str, char: str) -> bool:
    at = 0
    while at < len(inside):
        if inside[at + 1 : at + 2] == "-" and at + 2 < len(inside):
            if inside[at] <= char <= inside[at + 2]:
                return True
            at += 3
        else:
            if inside[at] == char:
                return True
            at += 1
    return False
