"""`sandboxd sandbox events`, `output`, `signal`: what happens in sandboxes that are open."""

import json
import sys

import click
from sandboxd_client import Sandbox

from sandboxd.cli.sandbox_service import service
from sandboxd.cli.sandbox_words import URL

_NAME = click.argument("name", metavar="ID")


@click.command()
@click.argument("name", metavar="[ID]", required=False)
@click.option("--after", help="The id of the last event that is known.")
@URL
def events(name: str | None, after: str | None, url: str | None) -> None:
    """What happens, a line of JSON each: to one sandbox from its beginning to its end, or to all of them
    from now on."""
    with service(url) as client:
        found = (
            Sandbox.all_events(client=client, after=after)
            if name is None
            else Sandbox.connect(name, client=client).events(after=after)
        )
        for event in found:
            line = {"id": event.id, "type": event.type, "sandbox": event.sandbox, "at": event.at,
                    "data": dict(event.data)}  # fmt: skip
            click.echo(json.dumps(line))


@click.command()
@_NAME
@click.argument("process")
@URL
def output(name: str, process: str, url: str | None) -> None:
    """What is kept of a process' output, and all that comes, to its end; leaving it leaves it alone."""
    with service(url) as client:
        for piece in Sandbox.connect(name, client=client).process.get(process).output():
            target = sys.stdout if piece.stream == "stdout" else sys.stderr
            target.buffer.write(piece.data)
            target.buffer.flush()


@click.command()
@_NAME
@click.argument("process")
@click.argument("number", metavar="SIGNAL", default="TERM")
@URL
def signal(name: str, process: str, number: str, url: str | None) -> None:
    """Send a signal, by name or number, to a process and its group."""
    with service(url) as client:
        found = Sandbox.connect(name, client=client).process.get(process)
        found.signal(int(number) if number.isdigit() else number)
