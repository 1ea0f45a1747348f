"""`sandboxd network`: the guard, as the node starts it."""

import sys

import click

from sandboxd.cli.gateway import compiled
from sandboxd.settings import Settings


@click.command("network", hidden=True)
@click.argument("line", type=int)
@click.option("--datagram", type=int, multiple=True)
@click.option("--stream", type=int, multiple=True)
@click.option("--proxy", type=int, multiple=True)
@click.option("--certificate", type=(str, int), multiple=True)
@click.pass_obj
def command(
    settings: Settings,
    line: int,
    datagram: tuple[int, ...],
    stream: tuple[int, ...],
    proxy: tuple[int, ...],
    certificate: tuple[tuple[str, int], ...],
) -> None:
    """Answer sandboxes' questions and carry their connections; started by the node."""
    from sandboxd.drivers.network.guard.attaching import Attaching
    from sandboxd.drivers.network.guard.main import Descriptors, main
    from sandboxd.gateway import confinement, privileges

    # Files can be opened now, and no more when there is something hostile to read.
    attaching = Attaching(dict(certificate), settings.network.authorities)
    privileges.drop(settings.network.uid, who="network")
    confinement.give_up(
        "network", settings, confinement.installed(), [compiled(settings, "gateway")], ports=None
    )
    sys.exit(main(Descriptors(line, datagram, stream, proxy, attaching)))
