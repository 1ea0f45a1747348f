"""`sandboxd sandbox exec`: a command in an open sandbox, as if it ran here."""

import asyncio
import sys
from typing import Any

import click
from sandboxd_client import AsyncClient, AsyncSandbox, Client, ProcessInfo, Sandbox, SandboxdError

from sandboxd.cli import run_report, terminal
from sandboxd.cli.sandbox_words import URL, options_of

_INTERRUPTED, _BROKEN_PIPE = 130, 141


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.option("--interactive", "-i", is_flag=True, help="Our stdin is its stdin.")
@click.option("--tty", "-t", is_flag=True, help="On a terminal.")
@click.option("--detach", "-d", is_flag=True, help="Start it, print its id, leave it.")
@click.option("--env", multiple=True, metavar="K=V", help="A variable of the command.")
@click.option("--cwd", default="/work", show_default=True, help="Directory that it begins in.")
@click.option("--user", type=click.Choice(("sandbox", "root")), help="As whom; root is one inside.")
@click.option("--timeout", type=float, help="Seconds after which it is killed.")
@URL
@click.argument("name", metavar="ID")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(
    name: str, command: tuple[str, ...], interactive: bool, tty: bool, detach: bool,
    env: tuple[str, ...], cwd: str, user: str | None, timeout: float | None, url: str | None,
) -> None:  # fmt: skip
    """Run a command in a sandbox, and exit as it does."""
    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.UsageError("give a command")
    options: Any = {"env": options_of(env=env).get("env", {}), "cwd": cwd, "user": user}
    try:
        if detach:
            with Client(url) as client:
                opened = Sandbox.connect(name, client=client)
                click.echo(opened.process.start(words, timeout=timeout, **options).id)
            return
        with terminal.raw(sys.stdin.fileno() if tty and interactive else -1):
            process = asyncio.run(
                _run(url, name, words, tty, interactive, {"timeout": timeout, **options})
            )
    except SandboxdError as error:
        raise SystemExit(run_report.failure(error, "sandboxd sandbox exec")) from None
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None
    except BrokenPipeError:
        raise SystemExit(_BROKEN_PIPE) from None
    terminal.complain(process)
    raise SystemExit(terminal.exit_code(process))


async def _run(
    url: str | None, name: str, words: tuple[str, ...], tty: bool, stdin: bool, options: Any
) -> ProcessInfo:
    async with AsyncClient(url) as client:
        opened = await AsyncSandbox.connect(name, client=client)
        live = opened.process.live(
            words, stdin=stdin or tty, pty=terminal.size() if tty else None, **options
        )
        return await terminal.joined(live, typing=tty, stdin=stdin)
