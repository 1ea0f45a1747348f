"""`sandboxd sandbox code`: a piece of code in an interpreter that keeps its state."""

import sys
from pathlib import Path
from typing import IO

import click
from sandboxd_client import CodeValue, Sandbox, save_files

from sandboxd.cli.sandbox_service import service
from sandboxd.cli.sandbox_words import URL

_INTERRUPTED = 130
_PICTURES = ("png", "jpeg", "pdf")


@click.command("code")
@click.option("--language", "-l", default="python", show_default=True)
@click.option("--context", metavar="ID", help="Not the language's default context but this one.")
@click.option("--timeout", type=float, help="Seconds after which it is interrupted.")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep pictures here as value-N.png.",
)
@URL
@click.argument("name", metavar="ID")
@click.argument("source", type=click.File("r"), default="-", metavar="[FILE]")
def code(
    name: str, source: IO[str], language: str, context: str | None, timeout: float | None,
    save: Path | None, url: str | None,
) -> None:  # fmt: skip
    """Run code from FILE or stdin in a sandbox; variables stay for the next time.

    Prints what it prints, and the value of its last expression; exits with 1 if it failed.
    """
    program = source.read()
    with service(url) as client:
        sandbox = Sandbox.connect(name, client=client)
        used = sandbox.contexts.get(context) if context else sandbox.contexts.default(language)
        shown: list[CodeValue] = []
        try:
            result = used.run(
                program, timeout=timeout, on_value=shown.append,
                on_stdout=lambda text: _write(sys.stdout, text),
                on_stderr=lambda text: _write(sys.stderr, text),
            )  # fmt: skip
        except KeyboardInterrupt:  # the service interrupts what has lost its client
            raise SystemExit(_INTERRUPTED) from None
    for value in shown:
        if value.text and not any(getattr(value, kind) for kind in _PICTURES):
            _write(sys.stdout, f"{value.text}\n")
    _keep(shown, save)
    if result.error is not None:
        _write(sys.stderr, f"{result.error.traceback or result.error.name}\n")
    elif not result.ok:
        _write(sys.stderr, f"sandboxd: {result.status}: {result.detail}\n")
    raise SystemExit(0 if result.ok else 1)


def _write(stream: IO[str], text: str) -> None:
    stream.write(text)
    stream.flush()


def _keep(shown: list[CodeValue], directory: Path | None) -> None:
    files = {
        f"value-{number}.{kind}": getattr(value, kind)
        for number, value in enumerate(shown, 1)
        for kind in _PICTURES
        if getattr(value, kind) is not None
    }
    if directory is not None and files:
        for path in save_files(files, directory):
            click.echo(f"kept {path}", err=True)
    elif files:
        click.echo(
            f"sandboxd: {len(files)} pictures are not shown; --save DIR keeps them", err=True
        )
