"""`sandboxd sandbox forward`: a port of this machine's loopback becomes one of a sandbox."""

import asyncio
import contextlib

import click
from sandboxd_client import AsyncClient, AsyncSandbox, SandboxdError
from sandboxd_client.async_port import AsyncPortStream

from sandboxd.cli import run_report
from sandboxd.cli.sandbox_words import URL

_CHUNK = 1 << 16


@click.command("forward")
@click.argument("name", metavar="ID")
@click.argument("port", type=click.IntRange(1, 65_535))
@click.option(
    "--local", type=click.IntRange(0, 65_535), help="Port here; the same unless given, 0: any."
)
@URL
def forward(name: str, port: int, local: int | None, url: str | None) -> None:
    """Listen on 127.0.0.1 and pass each connection on to PORT in a sandbox, until interrupted.

    Any user of this machine may then reach the server inside, as with `ssh -L`.
    """
    try:
        asyncio.run(_serve(url, name, port, port if local is None else local))
    except SandboxdError as error:
        raise SystemExit(run_report.failure(error, "sandboxd sandbox forward")) from None
    except OSError as error:
        click.echo(f"sandboxd: {error}", err=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


async def _serve(url: str | None, name: str, port: int, local: int) -> None:
    async with AsyncClient(url) as client:
        sandbox = await AsyncSandbox.connect(name, client=client)

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                async with sandbox.ports.connect(port) as stream:
                    await _relay(reader, writer, stream)
            except SandboxdError as error:
                click.echo(f"sandboxd: {error.detail} [{error.code}]", err=True)
            finally:
                writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", local)
        async with server:
            where = server.sockets[0].getsockname()[1]
            click.echo(f"127.0.0.1:{where} is port {port} of {name}")
            await server.serve_forever()


async def _relay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: AsyncPortStream
) -> None:
    """Both ways, until the server inside has ended or our own client has gone."""
    up = asyncio.create_task(_up(reader, stream))
    try:
        while (data := await stream.read()) is not None:
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        up.cancel()
        await asyncio.gather(up, return_exceptions=True)


async def _up(reader: asyncio.StreamReader, stream: AsyncPortStream) -> None:
    # Whoever reads the stream meets the same error and tells it.
    with contextlib.suppress(SandboxdError, ConnectionError):
        while data := await reader.read(_CHUNK):
            await stream.write(data)
        await stream.close_write()
