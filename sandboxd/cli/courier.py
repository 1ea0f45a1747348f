"""`sandboxd courier`."""

import sys

import click

from sandboxd.cli.gateway import compiled
from sandboxd.settings import Settings


@click.command("courier")
@click.pass_obj
def command(settings: Settings) -> None:
    """Run only the courier, which delivers webhooks."""
    from sandboxd.gateway.courier.main import Filters, main

    filters = Filters(always=compiled(settings, "gateway"), calling=compiled(settings, "courier"))
    sys.exit(main(settings, filters))
