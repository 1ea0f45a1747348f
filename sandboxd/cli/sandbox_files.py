"""`sandboxd sandbox files`: single files of a sandbox, their names shown so that they do no harm."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
from sandboxd_client import Client, FileInfo, Sandbox, SandboxdError

from sandboxd.cli import run_report
from sandboxd.cli.sandbox_words import place

_URL = click.option("--url", envvar="SANDBOXD_URL")
_PLACE = click.argument("where", metavar="ID:PATH")
_KINDS = {"directory": "d", "symlink": "l", "fifo": "p", "socket": "s", "device": "c"}


@click.group("files")
def files() -> None:
    """Files of a sandbox: list, show, write, remove."""


@contextmanager
def _at(url: str | None, where: str) -> Iterator[tuple[Sandbox, str]]:
    name, path = place(where)
    if name is None:
        raise click.UsageError(f"{where}: expected ID:PATH")
    try:
        with Client(url) as client:
            yield Sandbox.connect(name, client=client), path
    except SandboxdError as error:
        raise SystemExit(run_report.failure(error, "sandboxd sandbox files")) from None


def printable(name: bytes | str) -> str:
    """Control characters and what is not UTF-8 as escapes: a name must not speak to our terminal."""
    text = name if isinstance(name, str) else name.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@files.command("ls")
@_PLACE
@click.option("--depth", type=int, default=1, show_default=True)
@click.option("-l", "long", is_flag=True, help="With type, permissions and size.")
@_URL
def list_(where: str, depth: int, long: bool, url: str | None) -> None:
    """What is below a directory."""
    with _at(url, where) as (sandbox, path):
        for info in sandbox.files.list(path, depth=depth):
            click.echo(_line(info) if long else printable(info.path))


def _line(info: FileInfo) -> str:
    target = f" -> {printable(info.target)}" if info.target is not None else ""
    kind = _KINDS.get(info.type, "-")
    return f"{kind}{info.mode:04o} {info.size:>12} {printable(info.path)}{target}"


@files.command()
@_PLACE
@_URL
def cat(where: str, url: str | None) -> None:
    """A file, to stdout as it is."""
    with _at(url, where) as (sandbox, path):
        sandbox.files.download(path, sys.stdout.buffer)
        sys.stdout.buffer.flush()


@files.command()
@_PLACE
@_URL
def write(where: str, url: str | None) -> None:
    """stdin becomes a file, whole or not at all."""
    with _at(url, where) as (sandbox, path):
        sandbox.files.write(path, sys.stdin.buffer)


@files.command()
@_PLACE
@click.option("-r", "recursive", is_flag=True)
@_URL
def rm(where: str, recursive: bool, url: str | None) -> None:
    """Remove a file, or with -r a directory."""
    with _at(url, where) as (sandbox, path):
        sandbox.files.remove(path, recursive=recursive)


@files.command()
@_PLACE
@_URL
def mkdir(where: str, url: str | None) -> None:
    """Make a directory and its parents."""
    with _at(url, where) as (sandbox, path):
        sandbox.files.make_dir(path)


@files.command()
@_PLACE
@click.argument("target", metavar="PATH")
@_URL
def mv(where: str, target: str, url: str | None) -> None:
    """Move within a sandbox."""
    with _at(url, where) as (sandbox, path):
        sandbox.files.move(path, target)
