"""`sandboxd shell [ID]`: a terminal in a sandbox, a new one unless it is named."""

import asyncio
import os
import signal
import sys

import click
from sandboxd_client import (
    AsyncClient,
    AsyncSandbox,
    ConnectionFailed,
    ProcessInfo,
    SandboxdError,
)

from sandboxd.cli import run_report, terminal
from sandboxd.cli.sandbox_words import URL, options_of

_HUNG_UP = 129
_FIRST = ("/bin/sh", "-c", "command -v bash >/dev/null && exec bash -i; exec sh -i")


class _Shell(click.Command):
    """Keeps the words behind `--` apart: where there is no ID the first of them would be it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.obj = tuple(args[at + 1 :])
        return super().parse_args(ctx, args[:at])


@click.command("shell", cls=_Shell)
@click.argument("sandbox", required=False, metavar="[ID]")
@click.argument("words", nargs=-1, metavar="[-- COMMAND]...")
@click.option("--attach", metavar="PROCESS", help="A terminal that was opened before.")
@click.option("--keep", is_flag=True, help="Do not end a sandbox that was made for it.")
@click.option(
    "--template", help="What it is made from; the service's own for sandboxes unless given."
)
@click.option("--image", help="An image or snapshot instead of the template's.")
@click.option("--env", multiple=True, metavar="K=V", help="A variable of every command in it.")
@URL
@click.pass_obj
def shell(
    behind: tuple[str, ...], sandbox: str | None, words: tuple[str, ...], attach: str | None,
    keep: bool, template: str | None, image: str | None, env: tuple[str, ...], url: str | None,
) -> None:  # fmt: skip
    """A terminal in a sandbox. Without ID it is a new one, which ends with the shell.

    The exit code is that of the command, which is a shell unless it is given after `--`.
    """
    if attach and not sandbox:
        raise click.UsageError("--attach needs the sandbox's ID")
    command = (*words, *behind)
    options = options_of(template=template, image=image, env=env)

    async def session() -> ProcessInfo:
        _end_in_order()
        async with AsyncClient(url) as client:
            made = sandbox is None
            opened = (
                await AsyncSandbox.create(client=client, **options)
                if sandbox is None
                else await AsyncSandbox.connect(sandbox, client=client)
            )
            try:
                return await _terminal(opened, command, attach)
            finally:
                if made and not keep:
                    await opened.kill()
                elif made:
                    click.echo(f"sandbox {opened.id}", err=True)

    try:
        with terminal.raw(sys.stdin.fileno() if sys.stdin is not None else -1):
            process = asyncio.run(session())
    except SandboxdError as error:
        raise SystemExit(run_report.failure(error, "sandboxd shell")) from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except (asyncio.CancelledError, OSError):
        raise SystemExit(_HUNG_UP) from None
    terminal.complain(process)
    raise SystemExit(terminal.exit_code(process))


def _end_in_order() -> None:
    """Also if our terminal is closed: a sandbox that was made for it must not outlive it."""
    task = asyncio.current_task()
    assert task is not None

    def end() -> None:
        if not task.cancelling():  # the end takes a request, and may not be cut short
            task.cancel()

    for number in (signal.SIGHUP, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end)


async def _terminal(
    opened: AsyncSandbox, command: tuple[str, ...], attach: str | None
) -> ProcessInfo:
    rows, cols = terminal.size()
    if attach is not None:
        process = await opened.process.get(attach)
        return await terminal.joined(process.attach(), typing=True, stdin=True)
    pty = opened.pty.open(command or _FIRST, rows=rows, cols=cols, env={"TERM": _term()})
    try:
        return await terminal.joined(pty, typing=True, stdin=True)
    except ConnectionFailed:
        if pty.process is not None:
            where = f"sandboxd shell --attach {pty.process.id} {opened.id}"
            click.echo(f"\r\nsandboxd: the terminal may still be there: {where}\r", err=True)
        raise


def _term() -> str:
    """What our terminal is, if it is one that images know."""
    return os.environ.get("TERM") or "xterm"
