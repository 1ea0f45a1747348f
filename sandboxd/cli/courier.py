"""`sandboxd courier`."""

import sys

import click

from sandboxd.settings import Settings


@click.command("courier")
@click.pass_obj
def command(settings: Settings) -> None:
    """Run only the courier, which delivers webhooks."""
    from sandboxd.gateway.courier.main import main

    sys.exit(main(settings))
