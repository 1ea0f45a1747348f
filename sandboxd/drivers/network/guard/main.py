"""The guard process: bound sockets and a line to the node come as descriptors, nothing else is held."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from msgspec import Struct

from sandboxd.drivers.network.guard.attaching import Attaching
from sandboxd.drivers.network.guard.messages import (
    Assign,
    Done,
    Hello,
    Learn,
    Mates,
    Nobody,
    Opened,
    Release,
    ToNode,
    Unlearn,
    frame,
    read,
    to_guard,
)
from sandboxd.drivers.network.guard.proxy import Proxy
from sandboxd.drivers.network.guard.registry import Registry
from sandboxd.drivers.network.guard.resolver import Resolver, UdpService, serve_tcp
from sandboxd.drivers.network.guard.upstream import Upstream

log = logging.getLogger(__name__)


class Descriptors(Struct, frozen=True):
    """Numbers of inherited descriptors."""

    line: int
    """A stream socket to the node."""
    datagrams: Sequence[int]
    streams: Sequence[int]
    """Bound to the resolver's port, by UDP and TCP."""
    proxies: Sequence[int]
    attaching: Attaching


def main(given: Descriptors) -> int:
    """Serve until the node is gone or SIGTERM comes."""
    logging.basicConfig(
        level="INFO", stream=sys.stderr, format="%(levelname)s network: %(message)s"
    )
    asyncio.run(_run(given))
    return 0


async def _run(given: Descriptors) -> None:
    loop = asyncio.get_running_loop()
    line = socket.socket(fileno=given.line)
    reader, writer = await asyncio.open_connection(sock=line)

    def send(message: ToNode) -> None:
        writer.write(frame(message))

    hello = to_guard.decode(await read(reader))
    assert isinstance(hello, Hello)
    registry = Registry(send)
    upstream = Upstream(hello.resolvers, hello.floor)
    resolver, proxy = Resolver(registry, upstream), Proxy(registry, upstream, given.attaching)
    for number in given.datagrams:
        await loop.create_datagram_endpoint(
            lambda: UdpService(resolver), sock=socket.socket(fileno=number)
        )
    for number in given.streams:
        await asyncio.start_server(
            lambda r, w: serve_tcp(resolver, r, w), sock=socket.socket(fileno=number)
        )
    for number in given.proxies:
        await asyncio.start_server(proxy.serve, sock=socket.socket(fileno=number))
    listening = asyncio.create_task(_listen(reader, registry, send))
    loop.add_signal_handler(signal.SIGTERM, listening.cancel)
    with suppress(asyncio.CancelledError, EOFError, ConnectionError):
        await listening


async def _listen(
    reader: asyncio.StreamReader, registry: Registry, send: Callable[[ToNode], None]
) -> None:
    while True:
        message = to_guard.decode(await read(reader))
        match message:
            case Learn():
                registry.learn(message)
            case Unlearn():
                registry.unlearn(message)
            case Assign():
                registry.assign(message)
                send(Done(message.id))
            case Mates():
                registry.meet(message)
            case Release():
                registry.release(message)
                send(Done(message.id))
            case Nobody():
                registry.nobody(message)
            case Opened():
                registry.opened(message)
            case Hello():
                raise ValueError("a second greeting")
