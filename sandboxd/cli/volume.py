"""`sandboxd volume …`: file systems that outlive sandboxes, at a running service."""

import re

import click
from sandboxd_client import Client

from sandboxd.cli.service_group import service_group

_SIZE = re.compile(r"([0-9]{1,15})([KMGT]?)")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@service_group("volume")
def volume() -> None:
    """Volumes: named file systems of a fixed size, mounted into sandboxes."""


@volume.command()
@click.pass_obj
def ls(client: Client) -> None:
    """List names and sizes."""
    for each in client.volumes.list():
        click.echo(f"{each.name:<40} {each.size / 1e6:>12.1f} MB  {each.created_at}")


@volume.command()
@click.argument("name")
@click.argument("size")
@click.pass_obj
def create(client: Client, name: str, size: str) -> None:
    """Make the volume NAME of SIZE bytes; K, M, G and T are powers of 1024."""
    found = _SIZE.fullmatch(size.upper())
    if found is None:
        raise click.BadParameter(f"{size}: write a number, or one with K, M, G or T")
    made = client.volumes.create(name, int(found[1]) * _UNITS[found[2]])
    click.echo(f"{made.name} {made.size}")


@volume.command()
@click.argument("names", nargs=-1, required=True)
@click.pass_obj
def rm(client: Client, names: tuple[str, ...]) -> None:
    """Remove volumes that no sandbox has, and everything on them."""
    for name in names:
        client.volumes.remove(name)
