"""Words of the command line that name sandboxes, places in them and options of theirs."""

import re
from collections.abc import Iterable
from typing import Any

import click

from sandboxd.cli import mount_words

_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
URL = click.option(
    "--url", envvar="SANDBOXD_URL", help="The service: http://host:port, unix:/path."
)
_NAMED = re.compile(r"(sbx_[a-z2-7]{26}):(.+)", re.DOTALL)


def options_of(
    *,
    limits: Iterable[str] = (),
    env: Iterable[str] = (),
    metadata: Iterable[str] = (),
    volumes: Iterable[str] = (),
    data: Iterable[str] = (),
    network: str | None = None,
    group: str | None = None,
    hostname: str | None = None,
    **plain: Any,
) -> Any:
    """Options of a new sandbox; what was not given is left out. Raises UsageError."""
    options: dict[str, Any] = {name: value for name, value in plain.items() if value is not None}
    if pairs := _pairs(env, "--env"):
        options["env"] = pairs
    if pairs := _pairs(metadata, "--metadata"):
        options["metadata"] = pairs
    if pairs := _pairs(limits, "--limit"):
        options["limits"] = {name: _amount(name, text) for name, text in pairs.items()}
    if group or hostname:
        named = {"policy": network, "group": group, "hostname": hostname}
        options["network"] = {name: word for name, word in named.items() if word}
    elif network:
        options["network"] = network
    if volumes:
        options["volumes"] = [mount_words.volume(text) for text in volumes]
    if data:
        options["data"] = [mount_words.data(text) for text in data]
    return options


def place(word: str) -> tuple[str | None, str]:
    """`ID:PATH` as sandbox and path; of this machine where there is no ID."""
    match = _NAMED.fullmatch(word)
    return (match[1], match[2]) if match else (None, word)


def _pairs(words: Iterable[str], option: str) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{option} {word}: expected NAME=VALUE")
        pairs[name] = value
    return pairs


def _amount(name: str, text: str) -> float | int:
    match = re.fullmatch(r"([0-9.]+)([KMGT]?)", text.upper())
    try:
        if match is not None:
            number = float(match[1]) * _SIZES[match[2]]
            return number if name == "cpus" else int(number)
    except ValueError:
        pass
    raise click.UsageError(f"--limit {name}={text}: expected a number, such as 2, 512M or 1G")
