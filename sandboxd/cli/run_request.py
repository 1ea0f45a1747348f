"""The request of `sandboxd run` from its command line."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from sandboxd_client import Client, Limits, RunOptions

from sandboxd.cli import mount_words

_SUFFIXES = {
    "py": "python", "cc": "cpp", "cxx": "cpp", "sh": "bash", "rs": "rust",
    "js": "node", "mjs": "node", "cjs": "node", "rb": "ruby", "pl": "perl",
}  # fmt: skip
"""Suffixes that are not the name of their language; the service's aliases count too."""

_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SECONDS = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0}
_SIZES = ("memory", "output", "disk", "stack")
_TIMES = ("cpu_time", "wall_time")
_LIMITS = [each.name for each in fields(Limits)]
_VALUE = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)([a-z]*)")


def options(
    file: Path,
    arguments: tuple[str, ...],
    *,
    limits: tuple[str, ...],
    args: tuple[str, ...],
    env: tuple[str, ...],
    files: tuple[str, ...],
    collect: tuple[str, ...],
    compile_args: tuple[str, ...],
    volumes: tuple[str, ...] = (),
    data: tuple[str, ...] = (),
) -> RunOptions:
    """Everything but the language and stdin. Raises click.BadParameter."""
    wanted: RunOptions = {"source": _source(file), "args": [*args, *arguments]}
    if limits:
        wanted["limits"] = dict(map(limit, limits))
    if env:
        wanted["env"] = dict(map(_variable, env))
    if files:
        wanted["files"] = dict(map(_beside, files))
    if collect:
        wanted["collect"] = collect
    if compile_args:
        wanted["compile_args"] = compile_args
    if volumes:
        wanted["volumes"] = [mount_words.volume(text) for text in volumes]
    if data:
        wanted["data"] = [mount_words.data(text) for text in data]
    return wanted


def limit(text: str) -> tuple[str, float]:
    """`memory=64M` -> `("memory", 67108864)`; sizes take K, M, G, T, times ms, s, m.

    Raises click.BadParameter.
    """
    name, _, value = text.partition("=")
    if name not in _LIMITS:
        raise click.BadParameter(f"{text!r}: the limits are {', '.join(_LIMITS)}")
    match = _VALUE.fullmatch(value.strip().lower())
    units: dict[str, Any] = {"": 1}
    unit = match[2] if match else ""
    if name in _SIZES:
        units, unit = _BYTES, re.sub(r"i?b$", "", unit)
    elif name in _TIMES:
        units = _SECONDS
    if match is None or unit not in units:
        raise click.BadParameter(f"{text!r}: not a value of {name}")
    amount = float(match[1]) * units[unit]
    if name not in _TIMES and not amount.is_integer():
        raise click.BadParameter(f"{text!r}: not a whole number")
    return name, amount if name in _TIMES else int(amount)


def guess_language(client: Client, file: Path) -> str:
    """The service's language for the suffix of `file`. Raises click.UsageError, SandboxdError."""
    suffix = file.suffix.removeprefix(".").lower()
    words = {suffix, _SUFFIXES.get(suffix, suffix)} - {""}
    offered = client.languages()
    for language in offered:
        if words & {language.name, *language.aliases}:
            return language.name
    known = ", ".join(each.name for each in offered)
    raise click.UsageError(
        f"{file.name}: its suffix names no language; --language is one of {known}"
    )


def _source(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{file}: {error}") from None


def _variable(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise click.BadParameter(f"{text!r}: --env takes NAME=VALUE")
    return name, value


def _beside(text: str) -> tuple[str, bytes]:
    source, separator, destination = text.rpartition(":")
    path = Path(source if separator else text)
    try:
        return destination if separator else path.name, path.read_bytes()
    except OSError as error:
        raise click.BadParameter(f"--file {path}: {error.strerror}") from None
