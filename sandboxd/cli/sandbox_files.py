"""`sandboxd sandbox files`: single files of a sandbox, their names shown so that they do no harm."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
from sandboxd_client import FileInfo, Sandbox

from sandboxd.cli.sandbox_service import service
from sandboxd.cli.sandbox_words import URL, place

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
    with service(url, "sandboxd sandbox files") as client:
        yield Sandbox.connect(name, client=client), path


def printable(name: bytes | str) -> str:
    """Control characters and what is not UTF-8 as escapes: a name must not speak to our terminal."""
    text = name if isinstance(name, str) else name.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@files.command("ls")
@_PLACE
@click.option("--depth", type=int, default=1, show_default=True, help="Levels of directories.")
@click.option("-l", "long", is_flag=True, help="With type, permissions and size.")
@URL
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
@URL
def cat(where: str, url: str | None) -> None:
    """A file, to stdout as it is."""
    with _at(url, where) as (sandbox, path):
        sandbox.files.download(path, sys.stdout.buffer)
        sys.stdout.buffer.flush()


@files.command()
@_PLACE
@URL
def write(where: str, url: str | None) -> None:
    """stdin becomes a file, whole or not at all."""
    with _at(url, where) as (sandbox, path):
        sandbox.files.write(path, sys.stdin.buffer)


@files.command()
@_PLACE
@click.option("-r", "recursive", is_flag=True, help="With all that is in it.")
@URL
def rm(where: str, recursive: bool, url: str | None) -> None:
    """Remove a file, or with -r a directory."""
    with _at(url, where) as (sandbox, path):
        sandbox.files.remove(path, recursive=recursive)


@files.command()
@_PLACE
@URL
def mkdir(where: str, url: str | None) -> None:
    """Make a directory and its parents."""
    with _at(url, where) as (sandbox, path):
        sandbox.files.make_dir(path)


@files.command()
@_PLACE
@click.argument("target", metavar="PATH")
@URL
def mv(where: str, target: str, url: str | None) -> None:
    """Move within a sandbox."""
    with _at(url, where) as (sandbox, path):
        sandbox.files.move(path, target)


@files.command()
@_PLACE
@URL
def stat(where: str, url: str | None) -> None:
    """A file's type, permissions and size."""
    with _at(url, where) as (sandbox, path):
        click.echo(_line(sandbox.files.stat(path, follow=False)))


@files.command()
@_PLACE
@click.argument("mode")
@URL
def chmod(where: str, mode: str, url: str | None) -> None:
    """Set permissions, as an octal number."""
    try:
        bits = int(mode, 8)
    except ValueError:
        raise click.UsageError(f"{mode}: expected an octal number, such as 644") from None
    with _at(url, where) as (sandbox, path):
        sandbox.files.chmod(path, bits)


@files.command()
@_PLACE
@click.option("--put", is_flag=True, help="To write it.")
@click.option("--expires-in", type=float, default=3600.0, show_default=True, help="Seconds.")
@URL
def sign(where: str, put: bool, expires_in: float, url: str | None) -> None:
    """Print a URL that reads the file without a key."""
    with _at(url, where) as (sandbox, path):
        signed = sandbox.files.sign(path, method="PUT" if put else "GET", expires_in=expires_in)
        click.echo(signed.url)


@files.command()
@_PLACE
@URL
def watch(where: str, url: str | None) -> None:
    """What changes below a directory, a line for each change, until it is interrupted."""
    with _at(url, where) as (sandbox, path):
        for change in sandbox.files.watch(path):
            click.echo(f"{change.change:<10} {printable(change.path)}")
            sys.stdout.flush()
