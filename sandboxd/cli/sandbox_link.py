"""`sandboxd sandbox link`: an address of a server in a sandbox, for those who have no key."""

import click
from sandboxd_client import Client, Sandbox, SandboxdError

from sandboxd.cli import run_report
from sandboxd.cli.sandbox_words import URL


@click.command("link")
@click.argument("name", metavar="ID")
@click.argument("port", type=click.IntRange(1, 65_535))
@click.option(
    "--expires", type=click.FloatRange(1, 30 * 86_400), default=3600.0, show_default=True,
    help="Seconds.",
)  # fmt: skip
@URL
def link(name: str, port: int, expires: float, url: str | None) -> None:
    """Print a URL that opens PORT of a sandbox to whoever has it."""
    try:
        with Client(url) as client:
            made = Sandbox.connect(name, client=client).ports.link(port, expires_in=expires)
    except SandboxdError as error:
        raise SystemExit(run_report.failure(error, "sandboxd sandbox link")) from None
    click.echo(made.url)
