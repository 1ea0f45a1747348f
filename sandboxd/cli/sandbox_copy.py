"""`sandboxd sandbox cp`: files and directories in and out, with a progress bar where somebody looks.

What comes out is never trusted: a file goes where we say, and of a directory only plain files and
directories are made, none of them outside of the target.
"""

import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from sandboxd_client import Client, Sandbox, SandboxdError, unpack_tar

from sandboxd.cli import run_report
from sandboxd.cli.sandbox_files import printable
from sandboxd.cli.sandbox_words import URL, place

_WORTH_A_BAR = 1 << 20


@click.command("cp")
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.option("--resume", is_flag=True, help="Go on where a copy of the same file broke off.")
@URL
def cp(source: str, target: str, quiet: bool, resume: bool, url: str | None) -> None:
    """Copy a file or directory into a sandbox or out of it; one of the two is ID:PATH."""
    (name, inner), (other, outer) = place(source), place(target)
    if (name is None) == (other is None):
        raise click.UsageError("one of the two, and not both, is ID:PATH; an ID begins with sbx_")
    try:
        with Client(url) as client:
            if name is not None:
                _out(Sandbox.connect(name, client=client), inner, Path(outer), quiet, resume)
            elif other is not None:
                _in(Sandbox.connect(other, client=client), Path(inner), outer, quiet, resume)
    except SandboxdError as error:
        raise SystemExit(run_report.failure(error, "sandboxd sandbox cp")) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"sandboxd: {where}{error.strerror or error}", err=True)
        raise SystemExit(1) from None
    except ValueError as error:
        click.echo(f"sandboxd: {error}", err=True)
        raise SystemExit(1) from None


def _in(sandbox: Sandbox, source: Path, target: str, quiet: bool, resume: bool) -> None:
    if not source.is_dir():
        if target.endswith("/"):
            target += source.name
        mode = source.stat().st_mode & 0o777
        with _bar(source.name, quiet) as progress:
            sandbox.files.upload(source, target, mode=mode, resume=resume, progress=progress)
        return
    _no_directory(resume)
    with tempfile.TemporaryFile() as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
            archive.add(source, arcname=".")
        packed.seek(0)
        with _bar(source.name, quiet) as progress:
            sandbox.files.write_tar(target, packed, progress=progress)


def _out(sandbox: Sandbox, source: str, target: Path, quiet: bool, resume: bool) -> None:
    if sandbox.files.stat(source).type != "directory":
        if target.is_dir():
            target /= Path(source).name
        with _bar(target.name, quiet) as progress:
            sandbox.files.download(source, target, resume=resume, progress=progress)
        return
    _no_directory(resume)
    with tempfile.TemporaryFile() as packed:
        with _bar(target.name, quiet) as progress:
            sandbox.files.read_tar(source, packed, progress=progress)
        packed.seek(0)
        for name in unpack_tar(packed, target):
            click.echo(f"sandboxd: left out {printable(name)}", err=True)


def _no_directory(resume: bool) -> None:
    if resume:
        raise click.UsageError("--resume is for a single file")


@contextmanager
def _bar(label: str, quiet: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    """Hears of bytes, and shows them where stderr is a terminal and there are many. How many there will
    be is not known of what tar makes: then only what has come is shown."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    bar = None
    shown = 0

    def progress(done: int, size: int | None) -> None:
        nonlocal bar, shown
        if size is None:
            if done - shown >= _WORTH_A_BAR:
                shown = done
                click.echo(f"\r{label}  {done / 1e6:.1f} MB", err=True, nl=False)
            return
        if size < _WORTH_A_BAR:
            return
        if bar is None:
            bar = click.progressbar(length=size, label=label, file=sys.stderr)
            bar.__enter__()
        bar.update(done - bar.pos)

    try:
        yield progress
    finally:
        if bar is not None:
            bar.__exit__(None, None, None)
        elif shown:
            click.echo(err=True)
