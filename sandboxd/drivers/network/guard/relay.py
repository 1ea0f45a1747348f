"""Carrying a connection that was let through, in both directions, to its end."""

import asyncio
import socket
import struct
from collections.abc import Coroutine

from sandboxd.drivers.network.guard.http_requests import NotHttp, Requests
from sandboxd.drivers.network.guard.registry import Client

_CHUNK = 65_536
_IDLE = 900.0
"""Seconds without a byte in either direction."""
_ORIGINAL = 80  # SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, linux/netfilter_ipv4.h and _ipv6


class Link:
    """One connection of a sandbox, and what is known of it."""

    def __init__(
        self, client: Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Raises OSError for a connection that was not redirected."""
        self.client, self.reader, self.writer = client, reader, writer
        self.aim, self.port = original(writer.get_extra_info("socket"))
        self.name = ""
        self.address = ""
        self.sent = self.received = 0
        self.moved_at = asyncio.get_running_loop().time()


def passed(requests: Requests, data: bytes) -> bytes:
    """What of it may be sent on. Raises NotHttp, also for a request to another host than the first's."""
    whole = requests.feed(data)
    if any(host != requests.hosts[0] for host in requests.hosts):
        raise NotHttp(f"another host on the same connection: {requests.hosts[-1][:100]}")
    return whole


async def relay(
    link: Link,
    head: bytes,
    requests: Requests | None,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Both directions until both have ended, or one has failed. Raises OSError, TimeoutError, NotHttp."""
    writer.write(head)
    link.sent += len(head)
    await watched(link, _both(link, requests, reader, writer))


async def watched(link: Link, work: Coroutine[None, None, None]) -> None:
    """`work`, as long as something moves. Raises TimeoutError, or what is the first to go wrong in it."""
    watching = asyncio.create_task(_idle(link))
    carrying = asyncio.create_task(work)
    try:
        await asyncio.wait([watching, carrying], return_when=asyncio.FIRST_COMPLETED)
        error: BaseException | None = (
            carrying.exception() if carrying.done() else TimeoutError("idle")
        )
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if error is not None:
            raise error
    finally:
        for task in (watching, carrying):
            task.cancel()
        await asyncio.gather(watching, carrying, return_exceptions=True)


async def _idle(link: Link) -> None:
    """Until nothing has moved for so long."""
    clock = asyncio.get_running_loop().time
    while (left := link.moved_at + _IDLE - clock()) > 0:  # noqa: ASYNC110
        await asyncio.sleep(left)


async def _both(
    link: Link,
    requests: Requests | None,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_up(link, requests, writer))
        group.create_task(_down(link, requests, reader))


async def _up(link: Link, requests: Requests | None, writer: asyncio.StreamWriter) -> None:
    clock = asyncio.get_running_loop().time
    while data := await link.reader.read(_CHUNK):
        if requests is not None:
            await requests.settled.wait()
            data = passed(requests, data)
        link.moved_at, link.sent = clock(), link.sent + len(data)
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def _down(link: Link, requests: Requests | None, reader: asyncio.StreamReader) -> None:
    clock = asyncio.get_running_loop().time
    while data := await reader.read(_CHUNK):
        if requests is not None:
            requests.answered(data)
        link.moved_at, link.received = clock(), link.received + len(data)
        link.writer.write(data)
        await link.writer.drain()
    link.writer.write_eof()


def original(connection: socket.socket) -> tuple[str, int]:
    """Where a redirected connection was to go. Raises OSError for one that was not redirected."""
    if connection.family == socket.AF_INET6:
        raw = connection.getsockopt(socket.IPPROTO_IPV6, _ORIGINAL, 28)
        (port,) = struct.unpack_from("!H", raw, 2)
        return socket.inet_ntop(socket.AF_INET6, raw[8:24]), port
    raw = connection.getsockopt(socket.IPPROTO_IP, _ORIGINAL, 16)
    (port,) = struct.unpack_from("!H", raw, 2)
    return socket.inet_ntop(socket.AF_INET, raw[4:8]), port
