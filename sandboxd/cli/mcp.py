"""`sandboxd mcp`: the service as MCP tools over stdio, for a client that starts its servers itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import click
from sandboxd_client import AsyncClient


@click.command("mcp")
@click.option("--url", envvar="SANDBOXD_URL", help="The service; default http://127.0.0.1:7070.")
def command(url: str | None) -> None:
    """Serve MCP tools on stdin and stdout. The key is SANDBOXD_API_KEY of the environment."""
    try:
        from sandboxd.mcp.server import make_server
    except ImportError as error:
        raise click.ClickException(f"needs the extra sandboxd[mcp]: {error}") from None

    @asynccontextmanager
    async def client(_: Any) -> AsyncIterator[AsyncClient]:
        async with AsyncClient(url) as made:
            yield made

    asyncio.run(make_server(client).run_stdio_async())
