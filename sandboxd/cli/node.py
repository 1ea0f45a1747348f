"""`sandboxd node`."""

import sys

import click

from sandboxd.settings import Settings


@click.command("node")
@click.pass_obj
def command(settings: Settings) -> None:
    """Run only the node of this machine, which claims and executes jobs. Needs root."""
    from sandboxd.node.main import main

    sys.exit(main(settings))
