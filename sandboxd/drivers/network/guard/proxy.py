"""The proxy that connections to named hosts are redirected to: it looks for the name in what is said
first.

TLS must ask for a name that the policy allows on that port, plain HTTP for such a host in every
request. Where the connection then goes is what that name means on the host's side, not what the sandbox
chose. Nothing is decrypted, but for hosts that a policy attaches a secret to, see `attaching`.
"""

import asyncio
import ipaddress
import ssl

from sandboxd.drivers.network.guard.attaching import Attaching
from sandboxd.drivers.network.guard.client_hello import NotTls, server_name
from sandboxd.drivers.network.guard.http_requests import NotHttp, Requests
from sandboxd.drivers.network.guard.messages import Attached, Seen
from sandboxd.drivers.network.guard.names import plain, rules_for
from sandboxd.drivers.network.guard.registry import Registry
from sandboxd.drivers.network.guard.relay import Link, passed, relay, watched
from sandboxd.drivers.network.guard.upstream import Address, Refused, Upstream

_CHUNK = 65_536
_FIRST_WORDS = 10.0
_CONNECT = 10.0
_HANDSHAKE = 0x16


class Unwanted(Exception):
    """The connection is to be refused; the text says why, for the record."""

    def __init__(self, why: str, name: str = "") -> None:
        super().__init__(why)
        self.name = name


class Proxy:
    def __init__(
        self, registry: Registry, upstream: Upstream, attaching: Attaching | None = None
    ) -> None:
        self._registry, self._upstream = registry, upstream
        self._attaching = attaching

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One redirected connection, to its end."""
        task = asyncio.current_task()
        assert task is not None
        client = None
        try:
            client = await self._registry.client(writer.get_extra_info("peername")[0])
            if client is None:
                return
            client.connections.add(task)
            link = Link(client, reader, writer)
            verdict = "allowed"
            try:
                await self._carry(link)
            except Unwanted as unwanted:
                verdict, link.name = str(unwanted), link.name or unwanted.name
            except asyncio.CancelledError:
                verdict = "cut"
            except (OSError, TimeoutError) as error:
                verdict = f"failed: {error}"
            self._registry.seen(
                Seen(
                    client.assignment, "connection", verdict[:200], name=link.name[:253],
                    address=link.address or link.aim, port=link.port,
                    sent=link.sent, received=link.received,
                )
            )  # fmt: skip
        except OSError:
            pass
        finally:
            if client is not None:
                client.connections.discard(task)
            writer.transport.abort()

    async def _carry(self, link: Link) -> None:
        try:
            async with asyncio.timeout(_FIRST_WORDS):
                first = await link.reader.read(_CHUNK)
                if first[:1] == bytes([_HANDSHAKE]):
                    head, requests = await self._tls(link, first), None
                else:
                    requests = Requests()
                    head = await self._http(link, first, requests)
        except TimeoutError:
            raise Unwanted("said nothing that names a host") from None
        attached = [each for each in link.client.names.attached if each.domain == link.name]
        if attached and requests is None:
            await self._attach(link, head, attached)
            return
        reader, writer = await self._connect(link)
        try:
            await relay(link, head, requests, reader, writer)
        except NotHttp as error:
            raise Unwanted(f"not the HTTP that may pass: {error}") from None
        finally:
            writer.transport.abort()

    async def _attach(self, link: Link, head: bytes, attached: list[Attached]) -> None:
        if self._attaching is None or not self._attaching.knows(link.name):
            raise Unwanted("no certificate for it")
        reader, writer = await self._connect(link, self._attaching.outward)
        try:
            await watched(link, self._attaching.carry(link, head, attached, reader, writer))
        except NotHttp as error:
            raise Unwanted(f"not the HTTP that may pass: {error}") from None
        finally:
            writer.transport.abort()

    async def _tls(self, link: Link, data: bytes) -> bytes:
        try:
            while (name := server_name(data)) is None:
                more = await link.reader.read(_CHUNK)
                if not more:
                    raise Unwanted("ended within its first words")
                data += more
        except NotTls:
            raise Unwanted("neither TLS nor HTTP") from None
        link.name = self._allowed(link, name)
        return data

    async def _http(self, link: Link, data: bytes, requests: Requests) -> bytes:
        try:
            while not (head := passed(requests, data)):
                data = await link.reader.read(_CHUNK)
                if not data:
                    raise Unwanted("ended within its first words")
        except NotHttp:
            raise Unwanted("neither TLS nor HTTP") from None
        link.name = self._allowed(link, requests.hosts[0])
        return head

    def _allowed(self, link: Link, said: str) -> str:
        name = plain(said)
        if name is None:
            raise Unwanted("names no host", said)
        for rule in rules_for(link.client.names, name):
            if rule.protocol == "tcp" and link.port in rule.ports:
                return name
        raise Unwanted("no rule names it", name)

    async def _connect(
        self, link: Link, tls: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        kind = "AAAA" if ":" in link.aim else "A"
        try:
            found = await self._upstream.ask(link.name, kind)
        except Refused as refused:
            raise Unwanted(f"floor: {refused.address}") from None
        address = _choose(link, found.addresses)
        link.address = str(address)
        async with asyncio.timeout(_CONNECT):
            return await asyncio.open_connection(
                str(address), link.port, limit=_CHUNK, ssl=tls,
                server_hostname=None if tls is None else link.name,
            )  # fmt: skip


def _choose(link: Link, addresses: tuple[Address, ...]) -> Address:
    """The one the sandbox aimed at, if the name still means it, else the first."""
    denied = tuple(map(ipaddress.ip_network, link.client.names.deny_nets))
    left = [
        address
        for address in addresses
        if not any(address.version == net.version and address in net for net in denied)
    ]
    if not left:
        raise Unwanted("no address that is allowed")
    return next((address for address in left if str(address) == link.aim), left[0])
