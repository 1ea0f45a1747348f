"""`sandboxd image build`: an image from a Dockerfile and a directory, built on this machine."""

import asyncio
import os
import stat
import sys
import tarfile
from pathlib import Path
from typing import BinaryIO, cast

import click

from sandboxd.drivers.graph.builder.build import Build
from sandboxd.drivers.graph.builder.context import unpacked
from sandboxd.drivers.graph.builder.ignore import Ignored
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.images import full_name
from sandboxd.drivers.graph.importing import TarSink
from sandboxd.errors import InvalidImage
from sandboxd.model.building import Progress
from sandboxd.node.workshop import workshop
from sandboxd.settings import Settings


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-t", "--tag", "name", help="What the image is called.")
@click.option("-f", "--file", "dockerfile", type=click.Path(path_type=Path), help="The Dockerfile.")
@click.option("--build-arg", "arguments", multiple=True, metavar="NAME=VALUE")
@click.option("--target", default="", help="Build this stage instead of the last.")
@click.pass_obj
def build(
    settings: Settings,
    directory: Path,
    name: str | None,
    dockerfile: Path | None,
    arguments: tuple[str, ...],
    target: str,
) -> None:
    """Build an image from DIRECTORY and the Dockerfile in it.

    Each RUN is a sandbox under the template `build`, without a network. What an instruction made before
    from the same things is used again.
    """
    called = full_name(name) if name else None
    given = dict(argument.partition("=")[::2] for argument in arguments)
    try:
        text = (dockerfile or directory / "Dockerfile").read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"the Dockerfile: {error}") from error
    with Graph(settings) as graph:
        digest = asyncio.run(_build(settings, graph, text, directory, given, target, called))
    click.echo(f"{called or ''} {digest}".strip())


async def _build(
    settings: Settings,
    graph: Graph,
    text: str,
    directory: Path,
    given: dict[str, str],
    target: str,
    name: str | None,
) -> str:
    loop = asyncio.get_running_loop()

    def work() -> str:
        with graph.store.leasing() as lease, workshop(settings, graph, loop) as runner:
            with graph.store.writing(lease) as blob:
                pack(directory, cast("BinaryIO", TarSink(blob)))
            with unpacked(graph, graph.store.blob(blob.digest)) as context:
                build = Build(
                    graph, lease, resolve=graph.images.resolve, runner=runner, report=show
                )
                digest = build.build(text, context, given, target)
            if name is not None:
                graph.store.tag(name, digest)
            return digest

    return await asyncio.to_thread(work)


def pack(directory: Path, out: BinaryIO) -> None:
    """Write the context as an archive, without what its `.dockerignore` names."""
    try:
        lines = (directory / ".dockerignore").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    ignored = Ignored(lines)

    def chosen(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        path = entry.name.removeprefix("./")
        if path == ".dockerignore":
            return entry
        pruned = ignored(path) and not (entry.isdir() and ignored.exceptions)
        return None if pruned or entry.isdev() else entry

    try:
        with tarfile.open(mode="w|", fileobj=out, format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(directory.iterdir()):
                if not stat.S_ISSOCK(os.lstat(path).st_mode):
                    archive.add(path, arcname=path.name, filter=chosen)
    except OSError as error:
        raise InvalidImage(f"the context: {error}") from error


def show(event: Progress) -> None:
    """One event of a build, for people."""
    if event.type == "step":
        cached = click.style(" (cached)", fg="cyan") if event.cached else ""
        click.echo(f"[{event.step}/{event.steps}] {event.text}{cached}", err=True)
    elif event.type == "output":
        sys.stderr.write(event.text)
        sys.stderr.flush()
