"""`sandboxd template …`: images that are kept warm under a name, at a running service."""

import click
from sandboxd_client import Client, TemplateInfo

from sandboxd.cli.service_group import service_group


@service_group("template")
def template() -> None:
    """Templates: an image, what it runs under, how many sandboxes are kept warm."""


@template.command()
@click.pass_obj
def ls(client: Client) -> None:
    """List the operator's templates and yours."""
    for each in client.templates.list():
        click.echo(_line(each))


@template.command()
@click.argument("name")
@click.pass_obj
def show(client: Client, name: str) -> None:
    """One of them."""
    for each in client.templates.list():
        if each.name == name:
            click.echo(_line(each))
            return
    raise click.ClickException(f"there is no template {name}")


@template.command()
@click.argument("name")
@click.argument("image")
@click.option("--base", default="default", help="The operator's template: filters, cores, limits.")
@click.option("--min", "least", default=0, help="Sandboxes that are always ready.")
@click.option("--max", "most", default=8, help="The most, by how many are asked for.")
@click.pass_obj
def put(client: Client, name: str, image: str, base: str, least: int, most: int) -> None:
    """Let NAME be IMAGE; for sandboxes that live, --base session."""
    click.echo(_line(client.templates.put(name, image, base=base, pool=(least, most))))


@template.command()
@click.argument("names", nargs=-1, required=True)
@click.pass_obj
def rm(client: Client, names: tuple[str, ...]) -> None:
    """Remove templates of yours; their images stay."""
    for name in names:
        client.templates.remove(name)


def _line(each: TemplateInfo) -> str:
    least, most = each.pool
    whose = "shared" if each.shared else "yours"
    return f"{each.name:<24} {each.image:<32} {each.base:<12} {least:>3} to {most:<3} {whose}"
