"""Which names a policy lets a sandbox ask for and speak to. Pure.

Names are compared in one form only: lower case, no trailing dot, ASCII. What is no such name (an
address in any notation, a label with odd characters) is allowed by no rule.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator

from sandboxd.drivers.network.guard.messages import NameRule, Names

_NAME = re.compile(r"([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_DATA = ((20, 3.9), (40, 3.5))
"""A label longer than so many characters, with more than so many bits in each, is data in disguise: words
and identifiers stay below it, base32 and hex do not."""
_SUBNAME_MAX = 80
"""Characters below a wildcard."""


def plain(name: str) -> str | None:
    """The one form of a name, or None if it is none."""
    if not name.isascii():
        return None
    name = name.lower().removesuffix(".")
    return name if len(name) <= 253 and _NAME.fullmatch(name) else None


def matches(domain: str, name: str) -> bool:
    """Whether a rule's domain covers a name in its plain form."""
    if domain.startswith("*."):
        return name.endswith(domain[1:]) and len(name) > len(domain) - 1
    return name == domain


def rules_for(names: Names, name: str) -> Iterator[NameRule]:
    """The rules that allow this name (plain), none if one denies it."""
    if any(matches(domain, name) for domain in names.deny):
        return
    yield from (rule for rule in names.allow if matches(rule.domain, name))


def smuggles(rule: NameRule, name: str) -> bool:
    """Whether what stands for the wildcard looks like data: the name's owner would read it."""
    if not rule.domain.startswith("*."):
        return False
    below = name[: -len(rule.domain) + 1]
    if len(below) > _SUBNAME_MAX:
        return True
    return any(
        len(label) > length and entropy(label) > bits
        for label in below.split(".")
        for length, bits in _DATA
    )


def entropy(text: str) -> float:
    """Bits per character, by the frequencies of the text's own characters."""
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)
