"""`sandboxd gateway`."""

import sys

import click

from sandboxd.settings import Settings


@click.command("gateway")
@click.pass_obj
def command(settings: Settings) -> None:
    """Run only the HTTP gateway; many may share one Redis."""
    from sandboxd.gateway.main import main

    sys.exit(main(settings))
