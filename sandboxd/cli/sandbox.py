"""`sandboxd sandbox`: sandboxes that live, by the SDK like any other client."""

import json
import os
from dataclasses import asdict
from typing import Any

import click
from sandboxd_client import Sandbox, SandboxInfo

from sandboxd.cli import terminal
from sandboxd.cli.sandbox_code import code
from sandboxd.cli.sandbox_copy import cp
from sandboxd.cli.sandbox_exec import execute
from sandboxd.cli.sandbox_files import files
from sandboxd.cli.sandbox_follow import events, output, signal
from sandboxd.cli.sandbox_forward import forward
from sandboxd.cli.sandbox_link import link
from sandboxd.cli.sandbox_network import network
from sandboxd.cli.sandbox_service import service
from sandboxd.cli.sandbox_words import URL, options_of


@click.group("sandbox")
def sandbox() -> None:
    """Sandboxes that live: open them, run commands in them, move files, keep what they made."""


sandbox.add_command(cp)
sandbox.add_command(files)
sandbox.add_command(execute)
sandbox.add_command(code)
sandbox.add_command(forward)
sandbox.add_command(link)
sandbox.add_command(network)
sandbox.add_command(events)
sandbox.add_command(output)
sandbox.add_command(signal)


def show(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=True))


@sandbox.command()
@click.option(
    "--template", help="What it is made from; the service's own for sandboxes unless given."
)
@click.option("--image", help="An image or snapshot instead of the template's.")
@click.option(
    "--volume",
    "volumes",
    multiple=True,
    metavar="NAME:PATH[:ro]",
    help="A volume, mounted at PATH.",
)
@click.option("--data", multiple=True, metavar="DIGEST:PATH", help="An image of one layer.")
@click.option("--key", help="While there is a sandbox of this key, that one is the answer.")
@click.option("--metadata", multiple=True, metavar="K=V", help="To tell it by, as in ls.")
@click.option("--env", multiple=True, metavar="K=V", help="A variable of every command in it.")
@click.option("--timeout", type=float, help="Seconds until it ends.")
@click.option("--idle-timeout", type=float, help="Seconds without use after which it ends.")
@click.option(
    "--on-timeout",
    type=click.Choice(["kill", "pause"]),
    help="What happens then; kill unless given.",
)
@click.option("--limit", "limits", multiple=True, metavar="K=V", help="memory=512M, cpus=2 …")
@click.option("--network", metavar="POLICY", help="One of the operator's; none unless given.")
@click.option("--group", help="See the sandboxes that name the same group.")
@click.option("--hostname", help="Its name there: NAME.internal; its id unless given.")
@click.option(
    "--callback", metavar="URL", help="Is told what happens to it; SANDBOXD_SECRET signs."
)
@click.option("--json", "as_json", is_flag=True, help="All there is to say, not the id alone.")
@URL
def create(url: str | None, as_json: bool, callback: str | None, **given: Any) -> None:
    """Open a sandbox and print its id."""
    if callback is not None:
        secret = os.environ.get("SANDBOXD_SECRET")
        given["callback"] = {"url": callback, **({"secret": secret} if secret else {})}
    with service(url) as client:
        made = Sandbox.create(client=client, **options_of(**given))
        if as_json:
            show(made.info.document)
        else:
            click.echo(made.id)


@sandbox.command("ls")
@click.option("--all", "ended", is_flag=True, help="Those too that ended within a day.")
@click.option("--metadata", multiple=True, metavar="K=V", help="Only those that have this.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@URL
def list_(url: str | None, ended: bool, metadata: tuple[str, ...], as_json: bool) -> None:
    """The sandboxes there are, the newest first."""
    wanted = options_of(metadata=metadata).get("metadata")
    with service(url) as client:
        found = [
            info
            for info in Sandbox.list(client=client, metadata=wanted)
            if ended or info.state != "ended"
        ]
    if as_json:
        show([info.document for info in found])
        return
    for info in found:
        click.echo(_line(info))


def _line(info: SandboxInfo) -> str:
    state = info.state if info.end is None else f"ended: {info.end.reason}"
    about = " ".join(f"{name}={json.dumps(value)}" for name, value in info.metadata.items())
    return f"{info.id}  {state:<10}  {info.template:<10}  {info.created_at}  {about}".rstrip()


@sandbox.command()
@click.argument("name", metavar="ID")
@URL
def get(url: str | None, name: str) -> None:
    """A sandbox as JSON."""
    with service(url) as client:
        show(Sandbox.connect(name, client=client).info.document)


@sandbox.command()
@click.argument("names", nargs=-1, required=True, metavar="ID...")
@URL
def kill(url: str | None, names: tuple[str, ...]) -> None:
    """End sandboxes with everything in them."""
    with service(url) as client:
        for name in names:
            Sandbox.connect(name, client=client).kill()


@sandbox.command()
@click.argument("name", metavar="ID")
@click.option("--limit", "limits", multiple=True, metavar="K=V", help="memory=512M, cpus=2 …")
@click.option("--metadata", multiple=True, metavar="K=V", help="In place of what there is.")
@click.option("--idle-timeout", type=float, help="Seconds without use; 0 takes it away.")
@click.option(
    "--on-timeout",
    type=click.Choice(["kill", "pause"]),
    help="What happens when its time is up.",
)
@click.option("--network", metavar="POLICY", help="Another of the operator's, or none.")
@URL
def update(url: str | None, name: str, **given: Any) -> None:
    """Change it while it lives; what is not given stays."""
    with service(url) as client:
        show(Sandbox.connect(name, client=client).update(**options_of(**given)).document)


@sandbox.command()
@click.argument("name", metavar="ID")
@URL
def pause(url: str | None, name: str) -> None:
    """Let everything in it stand still, until it is used again."""
    with service(url) as client:
        Sandbox.connect(name, client=client).pause()


@sandbox.command()
@click.argument("name", metavar="ID")
@URL
def resume(url: str | None, name: str) -> None:
    """Let it go on."""
    with service(url) as client:
        Sandbox.connect(name, client=client).resume()


@sandbox.command()
@click.argument("name", metavar="ID")
@click.argument("timeout", type=float, required=False, metavar="[SECONDS]")
@URL
def extend(url: str | None, name: str, timeout: float | None) -> None:
    """Start its time to live again, with SECONDS as a new one; print when it ends."""
    with service(url) as client:
        click.echo(Sandbox.connect(name, client=client).extend(timeout).expires_at)


@sandbox.command()
@click.argument("name", metavar="ID")
@click.argument("image", required=False, metavar="[NAME]")
@URL
def snapshot(url: str | None, name: str, image: str | None) -> None:
    """Make an image of its files; print what to give as --image."""
    with service(url) as client:
        click.echo(Sandbox.connect(name, client=client).snapshot(image).image)


@sandbox.command()
@click.argument("name", metavar="ID")
@click.option("--count", "-n", type=int, default=1, show_default=True, help="How many.")
@URL
def fork(url: str | None, name: str, count: int) -> None:
    """Open new ones with the files that this one has now; print their ids."""
    with service(url) as client:
        for child in Sandbox.connect(name, client=client).fork(count):
            click.echo(child.id)


@sandbox.command()
@click.argument("name", metavar="ID")
@click.option("--history", is_flag=True, help="What it has used over time, a line for each sample.")
@URL
def metrics(url: str | None, name: str, history: bool) -> None:
    """What it uses now, or has used over time."""
    with service(url) as client:
        box = Sandbox.connect(name, client=client)
        if not history:
            show(asdict(box.metrics()))
            return
        samples = box.metrics_history().samples
    click.echo("AT                        CPU s  MEMORY MiB  DISK MiB  PIDS   GOT KiB  SENT KiB")
    for each in samples:
        click.echo(
            f"{each.at}  {each.cpu_time:7.2f}  {each.memory / 2**20:10.1f}  {each.disk / 2**20:8.1f}"
            f"  {each.pids:4d}  {each.rx_bytes / 1024:8.0f}  {each.tx_bytes / 1024:8.0f}"
        )


@sandbox.command()
@click.argument("name", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@URL
def ps(url: str | None, name: str, as_json: bool) -> None:
    """Its processes: those that run, and the last that ended."""
    with service(url) as client:
        found = Sandbox.connect(name, client=client).process.list()
    if as_json:
        show([process.document for process in found])
        return
    for process in found:
        state = "running" if process.running else f"exit {terminal.exit_code(process)}"
        click.echo(f"{process.id}  {state:<9}  {json.dumps(process.command)}")
