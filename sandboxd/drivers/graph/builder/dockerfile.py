"""Reads a Dockerfile: text in, instructions with their lines out. Pure.

The subset: FROM, RUN, COPY, ADD, ENV, WORKDIR, USER, ARG, LABEL, CMD, ENTRYPOINT. Everything else is an
error that names the line, here-documents included.
"""

import json
import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from sandboxd.errors import InvalidDockerfile

KEYWORDS = (
    "FROM", "RUN", "COPY", "ADD", "ENV", "WORKDIR", "USER", "ARG", "LABEL", "CMD", "ENTRYPOINT",
)  # fmt: skip
_FLAGS = {"FROM": {"platform"}, "COPY": {"from", "chown", "chmod"}, "ADD": {"chown", "chmod"}}
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z]+)\s*=\s*(.+?)\s*\Z")
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?(?:\s+|\Z)")
_HEREDOC = re.compile(r"(?:\A|\s)<<-?[\"']?[A-Za-z_]")
_LINES_MAX, _BYTES_MAX = 5_000, 1 << 20


class Instruction(Struct, frozen=True, kw_only=True):
    line: int
    """Where it begins, from 1."""
    keyword: str
    text: str
    """What follows keyword and flags, continued lines joined."""
    flags: dict[str, str] = {}
    words: list[str] | None = None
    """The JSON form (`["a", "b"]`), if it has that."""

    def fault(self, detail: str) -> InvalidDockerfile:
        return InvalidDockerfile(detail, self.line)


class Stage(Struct, frozen=True, kw_only=True):
    """From one FROM to the next."""

    name: str
    """Lower case; empty if it has none."""
    start: Instruction
    """The FROM."""
    base: str
    """An image, an earlier stage or `scratch`; variables not yet filled in."""
    steps: list[Instruction]


class Dockerfile(Struct, frozen=True):
    args: list[Instruction]
    """ARGs before the first FROM."""
    stages: list[Stage]


def parse(text: str) -> Dockerfile:
    """Raises InvalidDockerfile, which names the line."""
    if len(text) > _BYTES_MAX or text.count("\n") > _LINES_MAX:
        raise InvalidDockerfile(f"more than {_LINES_MAX} lines or {_BYTES_MAX} bytes", 1)
    args: list[Instruction] = []
    stages: list[Stage] = []
    for instruction in instructions(text):
        if instruction.keyword == "FROM":
            stages.append(_stage(instruction, stages))
        elif stages:
            stages[-1].steps.append(instruction)
        elif instruction.keyword == "ARG":
            args.append(instruction)
        else:
            raise instruction.fault(f"{instruction.keyword} before the first FROM")
    if not stages:
        raise InvalidDockerfile("there is no FROM", max(1, text.count("\n")))
    return Dockerfile(args, stages)


def instructions(text: str) -> Iterator[Instruction]:
    """One by one, in order. Raises InvalidDockerfile."""
    lines = text.removeprefix("\ufeff").split("\n")
    escape, first = _directives(lines)
    at = first
    while at < len(lines):
        begin, line = at + 1, lines[at].strip()
        at += 1
        if not line or line.startswith("#"):
            continue
        parts = []
        while line.endswith(escape):
            parts.append(line[:-1])
            # Comments and empty lines within an instruction are passed over.
            while at < len(lines) and (not lines[at].strip() or lines[at].lstrip().startswith("#")):
                at += 1
            if at == len(lines):
                line = ""
                break
            line = lines[at].strip() if parts[-1].endswith((" ", "\t")) else lines[at].rstrip()
            at += 1
        yield _instruction("".join([*parts, line]).strip(), begin)


def _directives(lines: Sequence[str]) -> tuple[str, int]:
    """The escape character, and the first line that is no parser directive."""
    for number, line in enumerate(lines):
        found = _DIRECTIVE.match(line.strip())
        if found is None or found[1].lower() not in ("syntax", "escape", "check"):
            return "\\", number
        if found[1].lower() == "escape":
            if found[2] not in ("\\", "`"):
                raise InvalidDockerfile("escape must be \\ or `", number + 1)
            return found[2], number + 1
    return "\\", len(lines)


def _instruction(line: str, number: int) -> Instruction:
    word, _, rest = line.partition(" ") if "\t" not in line.split(" ")[0] else line.partition("\t")
    keyword, rest = word.upper(), rest.strip()
    if keyword not in KEYWORDS:
        raise InvalidDockerfile(
            f"unknown instruction {word[:40]!r}; there are {', '.join(KEYWORDS)}", number
        )
    if "\0" in rest:
        raise InvalidDockerfile("a NUL", number)
    if keyword in ("RUN", "COPY", "ADD") and _HEREDOC.search(rest):
        raise InvalidDockerfile("here-documents are not supported", number)
    flags, rest = _split_flags(keyword, rest, number)
    if not rest:
        raise InvalidDockerfile(f"{keyword} without arguments", number)
    words = None if keyword in ("ENV", "LABEL", "ARG", "FROM") else _json(rest)
    return Instruction(line=number, keyword=keyword, text=rest, flags=flags, words=words)


def _split_flags(keyword: str, rest: str, number: int) -> tuple[dict[str, str], str]:
    flags: dict[str, str] = {}
    while found := _FLAG.match(rest):
        name = found[1]
        if name not in _FLAGS.get(keyword, ()) or not found[2]:
            raise InvalidDockerfile(f"{keyword} --{name} is not supported", number)
        flags[name] = found[2]
        rest = rest[found.end() :].strip()
    return flags, rest


def _json(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        return None  # as Docker has it: then it is a shell's line
    return words if isinstance(words, list) and all(isinstance(w, str) for w in words) else None


def _stage(start: Instruction, before: Sequence[Stage]) -> Stage:
    words = start.text.split()
    if len(words) == 3 and words[1].upper() == "AS":
        name = words[2].lower()
        if not re.fullmatch(r"[a-z][a-z0-9_.-]*", name):
            raise start.fault(f"{name[:40]!r} is not a stage's name")
        if any(stage.name == name for stage in before):
            raise start.fault(f"there is a stage {name} already")
    elif len(words) == 1:
        name = ""
    else:
        raise start.fault("write FROM image [AS name]")
    return Stage(name=name, start=start, base=words[0], steps=[])
