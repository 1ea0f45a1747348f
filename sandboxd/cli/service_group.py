"""A group of commands that ask a running service: their context's object is a client of it."""

from collections.abc import Callable

import click
from sandboxd_client import Client, SandboxdError


class _Group(click.Group):
    """Errors of the service end the command with their text."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (SandboxdError, ValueError) as error:
            raise click.ClickException(str(error)) from error


def service_group(name: str) -> Callable[[Callable[[], None]], click.Group]:
    """Decorates a function that is nothing but its docstring, the group's help."""

    def decorate(function: Callable[[], None]) -> click.Group:
        @click.group(name, cls=_Group, help=function.__doc__)
        @click.option(
            "--url", envvar="SANDBOXD_URL", help="The service: http://host:port, unix:/path."
        )
        @click.pass_context
        def group(context: click.Context, url: str | None) -> None:
            client = Client(url)
            context.call_on_close(client.close)
            context.obj = client

        return group

    return decorate
