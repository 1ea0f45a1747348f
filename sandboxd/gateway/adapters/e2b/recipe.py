"""A template of E2B's, step by step, as the Dockerfile that our builder takes. Pure."""

import json
import re

from msgspec import Struct

from sandboxd.errors import InvalidRequest
from sandboxd.gateway.adapters.e2b.errors import NotOffered
from sandboxd.gateway.adapters.e2b.words import CPUS, HOME, MEMORY

_MODE = re.compile(r"0?[0-7]{3,4}")
_OWNER = re.compile(r"[A-Za-z0-9_.-]{1,64}(:[A-Za-z0-9_.-]{1,64})?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HASH = re.compile(r"[0-9a-f]{64}")
_ACCOUNT = (
    "grep -q '^user:' /etc/passwd || echo 'user:x:1000:1000:user:/home/user:/bin/bash' >> /etc/passwd; "
    "mkdir -p /home/user && chown 1000:1000 /home/user"
)
"""Images know no `user`; E2B's all do."""


class Step(Struct, frozen=True, rename="camel"):
    type: str
    args: list[str] = []
    files_hash: str | None = None
    force: bool = False


class Recipe(Struct, frozen=True, rename="camel"):
    """Body of `POST /v2/templates/{id}/builds/{build}`."""

    from_image: str | None = None
    from_template: str | None = None
    from_image_registry: object = None
    start_cmd: str | None = None
    ready_cmd: str | None = None
    steps: list[Step] = []
    force: bool = False


def hashes(recipe: Recipe) -> list[str]:
    """Of the archives that its steps copy from. Raises InvalidRequest."""
    found = [step.files_hash or "" for step in recipe.steps if step.type.upper() == "COPY"]
    if not all(map(_HASH.fullmatch, found)):
        raise InvalidRequest("a COPY says by a SHA-256 which files it means", field="steps")
    return list(dict.fromkeys(found))


def dockerfile(recipe: Recipe, image: str, cpus: int | None, memory: int | None) -> str:
    """On `image`, in a context of what the archives of its COPY steps hold.
    Raises InvalidRequest, NotOffered."""
    if recipe.start_cmd or recipe.ready_cmd:
        raise NotOffered(
            "start and ready commands are not offered: a template has files alone, so start "
            "it in the sandbox"
        )
    if recipe.from_image_registry is not None:
        raise NotOffered("the operator says which registries there are, and with what credentials")
    lines = [f"FROM {image}", f"RUN {_exec('/bin/sh', '-c', _ACCOUNT)}"]
    lines += [f"LABEL {CPUS}={cpus}"] if cpus else []
    lines += [f"LABEL {MEMORY}={memory}"] if memory else []
    lines += [f"WORKDIR {HOME}", "USER user"]
    user = "user"
    for number, step in enumerate(recipe.steps):
        try:
            written, user = _step(step, user)
        except (IndexError, ValueError) as error:
            raise InvalidRequest(f"step {number}: {error}", field=f"steps.{number}") from None
        lines += written
    return "\n".join(lines) + "\n"


def _step(step: Step, user: str) -> tuple[list[str], str]:
    """Its lines, and who the next one runs as. Raises ValueError, IndexError, NotOffered."""
    args = step.args
    match step.type.upper():
        case "RUN":
            line = f"RUN {_exec('/bin/bash', '-l', '-c', args[0])}"
            other = args[1] if len(args) > 1 and args[1] else user
            if other == user:
                return [line], user
            return [f"USER {_checked(_OWNER, other)}", line, f"USER {user}"], user
        case "ENV":
            names, values = args[::2], args[1::2]
            pairs = zip(names, values, strict=True)
            return [
                f"ENV {_checked(_VARIABLE, name)}={quoted(value)}" for name, value in pairs
            ], user
        case "WORKDIR":
            return [f"WORKDIR {quoted(args[0])}"], user
        case "USER":
            return [f"USER {_checked(_OWNER, args[0])}"], args[0]
        case "COPY":
            return [_copy(step, user)], user
    raise NotOffered(f"steps of type {step.type[:32]!r} are not offered")


def _copy(step: Step, user: str) -> str:
    source, target, *more = step.args
    owner = _checked(_OWNER, more[0] if more and more[0] else user)
    options = [f"--chown={owner}"]
    if len(more) > 1 and more[1]:
        options.append(f"--chmod={_checked(_MODE, more[1])}")
    return f"COPY {' '.join(options)} {quoted(source)} {quoted(target)}"


def quoted(text: str) -> str:
    """As one word of a Dockerfile that means exactly this. Raises ValueError for a line break."""
    if any(character in text for character in "\n\r\0"):
        raise ValueError("a line break cannot be written")
    return '"' + re.sub(r'(["\\$])', r"\\\1", text) + '"'


def _exec(*argv: str) -> str:
    return json.dumps(argv)


def _checked(pattern: "re.Pattern[str]", text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"{text[:64]!r} cannot be taken")
    return text
