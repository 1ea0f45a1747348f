"""Words of a Dockerfile: quotes, escapes, variables, pairs. Pure."""

import re
from collections.abc import Mapping

_TOKEN = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\.|[^\s'\"\\]+|\s+|\\\Z", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPED = re.compile(r'\\(["\\$])')
_DEPTH_MAX = 8


def words(text: str) -> list[str]:
    """Split at blanks outside quotes; quotes and escapes stay, for `expand`. Raises ValueError."""
    found: list[str] = []
    fresh = True
    for token in _tokens(text):
        if token.isspace():
            fresh = True
        elif fresh:
            found.append(token)
            fresh = False
        else:
            found[-1] += token
    return found


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Take quotes and escapes away and fill in `$name`, `${name}`, `${name:-default}` and
    `${name:+other}`, but not within single quotes. Raises ValueError."""
    out = []
    for token in _tokens(text):
        if token[0] == "'":
            out.append(token[1:-1])
        elif token[0] == '"':
            out.append(_in_double_quotes(token[1:-1], variables))
        elif token[0] == "\\":
            out.append(token[1:] or token)
        else:
            out.append(_fill(token, variables, 0))
    return "".join(out)


def pairs(text: str, variables: Mapping[str, str]) -> list[tuple[str, str]]:
    """`a=1 b="2 3"`, or the old form `name the value`; expanded. Raises ValueError."""
    name, _, rest = text.partition(" ")
    if "=" not in name:
        if not name or not rest.strip():
            raise ValueError("write name=value")
        return [(expand(name, variables), expand(rest.strip(), variables))]
    found = []
    for word in words(text):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"{word[:40]!r} is not name=value")
        found.append((expand(name, variables), expand(value, variables)))
    return found


def _tokens(text: str) -> list[str]:
    tokens = _TOKEN.findall(text)
    if sum(map(len, tokens)) != len(text):
        raise ValueError("a quote without its end")
    return tokens


def _in_double_quotes(text: str, variables: Mapping[str, str]) -> str:
    out: list[str] = []
    at = 0
    for escape in _ESCAPED.finditer(text):
        out += (_fill(text[at : escape.start()], variables, 0), escape[1])
        at = escape.end()
    return "".join([*out, _fill(text[at:], variables, 0)])


def _fill(text: str, variables: Mapping[str, str], depth: int) -> str:
    if depth > _DEPTH_MAX:
        raise ValueError("variables nested too deeply")
    out: list[str] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        value, end = _variable(text, dollar + 1, variables, depth)
        out += (text[at:dollar], value)
        at = end
    return "".join([*out, text[at:]])


def _variable(text: str, at: int, variables: Mapping[str, str], depth: int) -> tuple[str, int]:
    """The value of what follows a `$`, and where it ends."""
    if text[at : at + 1] != "{":
        found = _NAME.match(text, at)
        return (variables.get(found[0], ""), found.end()) if found else ("$", at)
    end = _closing(text, at + 1)
    found = _NAME.match(text, at + 1)
    if found is None:
        raise ValueError(f"{text[at - 1 : end]!r} is not a variable")
    rest = text[found.end() : end - 1]
    value = variables.get(found[0], "")
    if not rest:
        return value, end
    if rest[:2] == ":-":
        return value or _fill(rest[2:], variables, depth + 1), end
    if rest[:2] == ":+":
        return _fill(rest[2:], variables, depth + 1) if value else "", end
    raise ValueError(f"{text[at - 1 : end]!r}: only :- and :+ are supported")


def _closing(text: str, at: int) -> int:
    depth = 1
    while at < len(text):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
        if depth == 0:
            return at
    raise ValueError("a ${ without its }")
