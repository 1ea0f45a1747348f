"""`sandboxd image remote …`: images of your own at a running service, which need no root anywhere."""

import sys
from collections.abc import Callable
from pathlib import Path

import click
from sandboxd_client import Client, Image, Progress

from sandboxd.cli.sandbox_files import printable
from sandboxd.cli.service_group import service_group
from sandboxd.cli.transfer_bar import TransferBar


@service_group("remote")
def remote() -> None:
    """The same at a running service: your images there, and those that its operator shares."""


@remote.command()
@click.pass_obj
def ls(client: Client) -> None:
    """List names, digests and sizes."""
    for each in client.images.list():
        whose = "shared" if each.shared else "yours"
        click.echo(f"{each.name:<40} {each.digest[7:19]}  {each.size / 1e6:>9.1f} MB  {whose}")


@remote.command()
@click.argument("name")
@click.pass_obj
def history(client: Client, name: str) -> None:
    """Print how an image was made, the last step first."""
    for step in reversed(client.images.get(name).history):
        click.echo(printable(step))


@remote.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-t", "--tag", "name", required=True, help="What the image is called.")
@click.option("--build-arg", "arguments", multiple=True, metavar="NAME=VALUE")
@click.option("--target", default="", help="Build this stage instead of the last.")
@click.pass_obj
def build(
    client: Client, directory: Path, name: str, arguments: tuple[str, ...], target: str
) -> None:
    """Build an image from DIRECTORY and the Dockerfile in it."""
    given = dict(argument.partition("=")[::2] for argument in arguments)
    made = client.images.build(name, directory, build_args=given, target=target, on_progress=_show)
    _told(made)


@remote.command("import")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("name")
@click.pass_obj
def import_(client: Client, source: Path, name: str) -> None:
    """Make an image NAME of SOURCE: an archive that was exported, or a root file system in a tar."""
    _told(client.images.import_rootfs(name, source))


@remote.command()
@click.argument("name")
@click.argument("target")
@click.pass_obj
def export(client: Client, name: str, target: str) -> None:
    """Write an image to TARGET, an archive; - is stdout."""
    if target == "-":
        client.images.export(name, sys.stdout.buffer)
    else:
        client.images.export(name, Path(target))


@remote.command()
@click.argument("name")
@click.argument("local", required=False)
@click.pass_obj
def pull(client: Client, name: str, local: str | None) -> None:
    """Let the service fetch an image from a registry that its operator allows."""
    with TransferBar(name) as bar:
        made = client.images.pull(name, local=local, on_progress=_transfer(bar))
    _told(made)


@remote.command()
@click.argument("name")
@click.argument("target", metavar="[REMOTE]", required=False)
@click.pass_obj
def push(client: Client, name: str, target: str | None) -> None:
    """Let the service send an image to the registry that its name, or REMOTE, has."""
    with TransferBar(target or name) as bar:
        client.images.push(name, remote=target, on_progress=_transfer(bar))


@remote.command()
@click.argument("name")
@click.argument("new")
@click.pass_obj
def tag(client: Client, name: str, new: str) -> None:
    """Give an image another name."""
    _told(client.images.tag(name, new))


@remote.command()
@click.argument("names", nargs=-1, required=True)
@click.pass_obj
def rm(client: Client, names: tuple[str, ...]) -> None:
    """Take names of yours away."""
    for name in names:
        client.images.remove(name)


def _told(made: Image) -> None:
    click.echo(f"{made.name} {made.digest}")


def _transfer(bar: TransferBar) -> Callable[[Progress], None]:
    def told(event: Progress) -> None:
        if event.type == "transfer":
            document = event.document
            bar(document["blob"], document.get("done_bytes", 0), document.get("total_bytes", 0))

    return told


def _show(event: Progress) -> None:
    if event.type == "step":
        cached = " (cached)" if event.cached else ""
        click.echo(f"[{event.step}/{event.steps}] {event.text}{cached}", err=True)
    elif event.type == "output":
        sys.stderr.write(event.text)
        sys.stderr.flush()
