"""The sandboxes' only resolver: A and AAAA of allowed names, nothing else.

An answer is flat (no aliases) and comes only after the node has opened what it names. Other types of an
allowed name have no data: no HTTPS record hands out keys that would hide the name from the proxy.
"""

import asyncio
import struct
from typing import cast

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from sandboxd.drivers.network.guard.messages import NameRule, Seen, Target
from sandboxd.drivers.network.guard.names import matches, plain, rules_for, smuggles
from sandboxd.drivers.network.guard.registry import Client, Registry
from sandboxd.drivers.network.guard.upstream import Address, Refused, Upstream

_UDP_MAX = 1_232
_GRACE = 10
"""Seconds that an opening outlives its answer: a client may begin at the last moment."""
_BLOCKED = dns.edns.EDECode.BLOCKED
_MEMBERS = ".internal"
"""Names of sandboxes of one group network; the domain is reserved for private use."""
_KINDS = {dns.rdatatype.A: "A", dns.rdatatype.AAAA: "AAAA"}


class Resolver:
    def __init__(self, registry: Registry, upstream: Upstream) -> None:
        self._registry, self._upstream = registry, upstream

    async def answer(self, data: bytes, peer: str, *, udp: bool) -> bytes | None:
        """The response to one message, or None to say nothing."""
        client = await self._registry.client(peer)
        if client is None or not client.questions.take(asyncio.get_running_loop().time()):
            return None
        try:
            query = dns.message.from_wire(data)
        except (dns.exception.DNSException, ValueError):
            return None
        if query.flags & dns.flags.QR:
            return None
        response = dns.message.make_response(query, recursion_available=True, our_payload=_UDP_MAX)
        await self._fill(response, query, client)
        wire = response.to_wire()
        limit = max(512, min(_UDP_MAX, query.payload if query.edns >= 0 else 512))
        if udp and len(wire) > limit:
            response.answer.clear()
            response.flags |= dns.flags.TC
            wire = response.to_wire()
        return wire

    async def _fill(
        self, response: dns.message.Message, query: dns.message.Message, client: Client
    ) -> None:
        if query.opcode() != dns.opcode.QUERY:
            response.set_rcode(dns.rcode.NOTIMP)
            return
        if len(query.question) != 1 or query.question[0].rdclass != dns.rdataclass.IN:
            response.set_rcode(dns.rcode.FORMERR)
            return
        question = query.question[0]
        asked = question.name.to_text(omit_final_dot=True)
        name = plain(asked)
        kind = _KINDS.get(question.rdtype)
        if name is not None and name.endswith(_MEMBERS) and client.member:
            self._member(response, question, client, name.removesuffix(_MEMBERS))
            return
        rules = [] if name is None else list(rules_for(client.names, name))
        verdict = _verdict(client, name, rules)
        if verdict != "allowed" or name is None:
            self._refuse(response, client, asked, verdict)
        elif kind is not None:
            await self._look_up(response, question.name, name, kind, client, rules)

    async def _look_up(
        self,
        response: dns.message.Message,
        question: dns.name.Name,
        name: str,
        kind: str,
        client: Client,
        rules: list[NameRule],
    ) -> None:
        """Answer with what the name means on the host's side, once that is open."""
        try:
            found = await self._upstream.ask(name, kind)
        except Refused as refused:
            self._refuse(response, client, name, f"floor: {refused.address}")
            return
        except OSError:
            response.set_rcode(dns.rcode.SERVFAIL)
            return
        if not found.exists:
            response.set_rcode(dns.rcode.NXDOMAIN)
        if not found.addresses:
            return
        if rules and not await self._open(client, kind, rules, found.addresses, found.ttl):
            response.set_rcode(dns.rcode.SERVFAIL)
            return
        texts = [str(address) for address in found.addresses]
        response.answer.append(dns.rrset.from_text_list(question, found.ttl, "IN", kind, texts))
        self._registry.seen(Seen(client.assignment, "name", "allowed", name=name, address=texts[0]))

    def _member(
        self, response: dns.message.Message, question: dns.rrset.RRset, client: Client, name: str
    ) -> None:
        """Answer for another sandbox of the client's group network."""
        found, kind = self._registry.member(client, name), _KINDS.get(question.rdtype)
        if found is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif kind is not None:
            address = found[0 if kind == "A" else 1]
            response.answer.append(dns.rrset.from_text(question.name, 5, "IN", kind, address))

    async def _open(
        self,
        client: Client,
        kind: str,
        rules: list[NameRule],
        addresses: tuple[Address, ...],
        ttl: int,
    ) -> bool:
        targets = [
            Target(
                rule.protocol, port, str(address), ttl + _GRACE,
                rule.protocol == "tcp" and not rule.opaque,
            )
            for rule in rules
            for port in rule.ports
            for address in addresses
        ]  # fmt: skip
        own = client.addresses[0 if kind == "A" else 1]
        return await self._registry.open(own, targets)

    def _refuse(
        self, response: dns.message.Message, client: Client, asked: str, verdict: str
    ) -> None:
        # REFUSED would be true, but the C library asks again and again before it believes it.
        response.set_rcode(dns.rcode.NXDOMAIN)
        if response.edns >= 0:
            reason = dns.edns.EDEOption(_BLOCKED, verdict)
            response.use_edns(0, options=[reason], payload=_UDP_MAX)
        self._registry.seen(Seen(client.assignment, "name", verdict[:200], name=asked[:253]))


def _verdict(client: Client, name: str | None, rules: list[NameRule]) -> str:
    if name is None:
        return "not a name"
    if not rules:
        denied = any(matches(domain, name) for domain in client.names.deny)
        return "allowed" if client.names.resolve and not denied else "no rule names it"
    if all(smuggles(rule, name) for rule in rules):
        return "looks like data"
    return "allowed"


class UdpService(asyncio.DatagramProtocol):
    """One bound datagram socket of the resolver."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(data, address))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, data: bytes, address: tuple[str, int]) -> None:
        response = await self._resolver.answer(data, address[0], udp=True)
        if response is not None:
            self._transport.sendto(response, address)


async def serve_tcp(
    resolver: Resolver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Questions of one TCP connection, one after the other."""
    peer = writer.get_extra_info("peername")[0]
    try:
        while True:
            async with asyncio.timeout(10):
                (size,) = struct.unpack("!H", await reader.readexactly(2))
                data = await reader.readexactly(size)
            response = await resolver.answer(data, peer, udp=False)
            if response is None:
                return
            writer.write(struct.pack("!H", len(response)) + response)
            await writer.drain()
    except (TimeoutError, asyncio.IncompleteReadError, OSError):
        pass
    finally:
        writer.close()
