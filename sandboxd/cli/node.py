"""`sandboxd node`."""

import sys

import click

from sandboxd.cli.configuration import Configuration, pass_configuration


@click.command("node")
@pass_configuration
def command(configuration: Configuration) -> None:
    """Run only the node of this machine, which claims and executes jobs. Needs root."""
    settings = configuration.settings()
    from sandboxd.node.main import main  # after the settings: a mistake in them is told at once

    sys.exit(main(settings))
