"""`sandboxd gateway`."""

import sys

import click

from sandboxd.cli.configuration import Configuration, pass_configuration


@click.command("gateway")
@pass_configuration
def command(configuration: Configuration) -> None:
    """Run only the HTTP gateway; many may share one Redis."""
    settings = configuration.settings()
    from sandboxd.gateway.main import main  # after the settings: a mistake in them is told at once

    sys.exit(main(settings))
