"""`sandboxd image …`: the images of this machine's store."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click
import msgspec

from sandboxd import policy
from sandboxd.cli.image_build import build
from sandboxd.cli.image_remote import remote
from sandboxd.cli.sandbox_files import printable
from sandboxd.cli.transfer_bar import TransferBar
from sandboxd.drivers.graph import exporting, importing, registry
from sandboxd.drivers.graph.collection import collect
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.images import full_name
from sandboxd.drivers.graph.store import Lease
from sandboxd.drivers.graph.verify import verify as examine
from sandboxd.errors import SandboxdError
from sandboxd.model.image import Recipe
from sandboxd.settings import Settings


class _Image(click.Group):
    """Errors of the store end the command with their text."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SandboxdError as error:
            raise click.ClickException(error.detail) from error


@click.group(cls=_Image)
def image() -> None:
    """Images: bring them in and out, look at them, throw them away."""


def _settings() -> Settings:
    settings = click.get_current_context().obj
    assert isinstance(settings, Settings)
    return settings


def _graph() -> Graph:
    return Graph(_settings())


@image.command("import")
@click.argument("source")
@click.argument("name")
@click.option("--mirror", multiple=True, help="For debootstrap: a mirror or sources file.")
def import_(source: str, name: str, mirror: tuple[str, ...]) -> None:
    """Make an image NAME of SOURCE.

    SOURCE is an OCI layout, a directory, a `docker save` archive, a root file system in a tar (plain,
    gzip or zstd; - is stdin), or debootstrap:SUITE[+PACKAGE…].
    """
    name = full_name(name)
    with _graph() as graph, graph.store.leasing() as lease:
        digest = _importer(source, mirror)(graph, lease)
        graph.store.tag(name, digest)
    click.echo(f"{name} {digest}")


def _importer(source: str, mirror: tuple[str, ...]) -> Callable[[Graph, Lease], str]:
    path = Path(source)
    if source == "-":
        return lambda graph, lease: importing.from_rootfs(
            graph.images, lease, sys.stdin.buffer, "-"
        )
    if source.startswith("debootstrap:"):
        suite, *packages = source.removeprefix("debootstrap:").split("+")
        return lambda graph, lease: importing.from_debootstrap(
            graph.images, lease, Recipe(name="", title="", suite=suite, packages=packages), mirror
        )
    if path.is_dir():
        whole = (
            importing.from_layout if (path / "oci-layout").is_file() else importing.from_directory
        )
        return lambda graph, lease: whole(graph.images, lease, path)
    if not path.is_file():
        raise click.BadParameter(f"{source}: no such file or directory", param_hint="SOURCE")
    if importing.is_archive_of_images(path):
        return lambda graph, lease: importing.from_archive(graph.images, lease, path)

    def rootfs(graph: Graph, lease: Lease) -> str:
        with path.open("rb") as stream:
            return importing.from_rootfs(graph.images, lease, stream, path.name)

    return rootfs


@image.command()
@click.argument("names", nargs=-1)
@click.option("--mirror", multiple=True, help="A mirror or sources file, as mmdebstrap takes it.")
def make(names: tuple[str, ...], mirror: tuple[str, ...]) -> None:
    """Make the images that `images/` of the policies describes, or those NAMES of them."""
    recipes = policy.images(_settings().policy_path)
    for name in names or recipes:
        if name not in recipes:
            raise click.BadParameter(f"{name}: there is only {', '.join(recipes)}")
        with _graph() as graph, graph.store.leasing() as lease:
            digest = importing.from_debootstrap(graph.images, lease, recipes[name], mirror)
            graph.store.tag(full_name(name), digest)
        click.echo(f"{full_name(name)} {digest}")


image.add_command(build)
image.add_command(remote)


@image.command()
@click.argument("name")
@click.argument("target")
def export(name: str, target: str) -> None:
    """Write an image to TARGET: an archive, - for stdout, or, ending in /, an OCI layout."""
    with _graph() as graph:
        digest = graph.images.resolve(name)
        tag = full_name(name) if not name.startswith("sha256:") else ""
        with graph.store.leasing(digest):
            if target.endswith("/"):
                exporting.to_layout(graph.images, digest, tag, Path(target))
                return
            with ExitStack() as stack:
                out = (
                    sys.stdout.buffer
                    if target == "-"
                    else stack.enter_context(Path(target).open("wb"))
                )
                exporting.to_archive(graph.images, digest, tag, out)


@image.command()
@click.argument("name")
@click.argument("local", required=False)
def pull(name: str, local: str | None) -> None:
    """Fetch an image from its registry; it is called LOCAL, or by its full name.

    Credentials are those of `docker login`. Registries on this machine are spoken to without TLS.
    """
    remote = registry.remote_name(name)
    called = full_name(local) if local else remote.local
    with _graph() as graph, graph.store.leasing() as lease, registry.Client(remote) as client:
        with TransferBar(remote.local) as shown:
            digest = registry.pull(client, graph.images, lease, shown)
        graph.store.tag(called, digest)
    click.echo(f"{called} {digest}")


@image.command()
@click.argument("name")
@click.argument("remote", required=False)
def push(name: str, remote: str | None) -> None:
    """Send an image to the registry that its name, or REMOTE, has."""
    target = registry.remote_name(remote or full_name(name))
    with _graph() as graph, registry.Client(target, push=True) as client:
        digest = graph.images.resolve(name)
        with graph.store.leasing(digest), TransferBar(target.local) as shown:
            registry.push(client, graph.images, digest, shown)
    click.echo(f"{target.local} {digest}")


@image.command()
def ls() -> None:
    """List names, digests and sizes."""
    with _graph() as graph:
        for row in graph.images.summaries():
            click.echo(
                f"{row.name:<40} {row.digest[7:19]}  {row.layers:>3} layers "
                f"{row.size / 1e6:>9.1f} MB  {row.created or ''}"
            )


@image.command()
@click.argument("name")
def inspect(name: str) -> None:
    """Print an image's manifest and configuration as JSON."""
    with _graph() as graph:
        details = graph.images.details(graph.images.resolve(name))
    click.echo(msgspec.json.format(msgspec.json.encode(details)).decode())


@image.command()
@click.argument("name")
def history(name: str) -> None:
    """Print how an image was made, the last step first."""
    with _graph() as graph:
        details = graph.images.details(graph.images.resolve(name))
    sizes = iter([layer.size for layer in details.manifest.layers])
    lines = []
    for step in details.config.history or []:
        size = 0 if step.empty_layer else next(sizes, 0)
        made = printable(step.created_by[:120])
        lines.append(f"{printable(step.created or ''):<25} {size / 1e6:>9.1f} MB  {made}")
    click.echo("\n".join(reversed(lines)))


@image.command()
@click.argument("name")
@click.argument("new")
def tag(name: str, new: str) -> None:
    """Give an image another name."""
    with _graph() as graph:
        graph.store.tag(full_name(new), graph.images.resolve(name))


@image.command()
@click.argument("names", nargs=-1, required=True)
def rm(names: tuple[str, ...]) -> None:
    """Take names away; `gc` removes what is then unused."""
    with _graph() as graph:
        for name in names:
            graph.store.untag(full_name(name))


@image.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def gc(dry_run: bool) -> None:
    """Remove what no name, no running or warm sandbox and no command in progress needs."""
    with _graph() as graph:
        garbage = collect(graph.store, dry_run=dry_run)
    for digest in garbage.blobs:
        click.echo(f"{digest}{'  unpacked' if digest in garbage.layers else ''}")
    click.echo(
        f"{'would remove' if dry_run else 'removed'} {len(garbage.blobs)} blobs "
        f"({garbage.bytes / 1e6:.1f} MB), {len(garbage.layers)} unpacked layers, "
        f"{garbage.abandoned} leftovers"
    )


@image.command()
def verify() -> None:
    """Check every file of the store; exits 1 if one is damaged."""
    with _graph() as graph:
        damages = list(examine(graph.store))
    for damage in damages:
        click.echo(damage)
    click.echo(f"{len(damages)} damaged" if damages else "the store is whole")
    sys.exit(1 if damages else 0)
