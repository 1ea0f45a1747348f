"""Group networks that span nodes: two namespaces as two hosts, on one wire that nobody else has."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import dns.message
import dns.query
import pytest
from pyroute2 import IPRoute

from sandboxd.drivers.network.egress import EgressNetwork
from sandboxd.drivers.network.namespaces import close, here
from sandboxd.drivers.network.slots import EgressSlot
from sandboxd.model.egress import EgressPolicy
from sandboxd.native import new_netns
from sandboxd.node.network_guard import Guard
from sandboxd.node.network_overlay import Overlay
from sandboxd.queue.overlay import OverlayDirectory
from sandboxd.settings import NetworkSettings, RedisSettings, Settings
from tests.network.driven import policy
from tests.network.world import World, reaches, udp

pytestmark = pytest.mark.root

T = TypeVar("T")
NOTHING, OTHER = policy(), policy(connections=7)
UNDERLAY = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
"""Of the two nodes, and of a stranger on their wire."""


class Wire:
    """Three hosts on one bridge, in namespaces of their own."""

    def __init__(self) -> None:
        self.hub, self.hosts = new_netns(), [new_netns() for _ in UNDERLAY]
        self.world = World(here(), self.hub, self.hub)
        self.world.inside(self.hub, self._join)
        for number in range(len(UNDERLAY)):
            self.world.inside(self.hosts[number], lambda n=number: self._arrive(n))

    def _join(self) -> None:
        with IPRoute() as link:
            link.link("add", ifname="br", kind="bridge")
            bridge = socket.if_nametoindex("br")
            link.link("set", index=bridge, state="up")
            for number, host in enumerate(self.hosts):
                peer = {"ifname": "ul", "net_ns_fd": host}
                link.link("add", ifname=f"p{number}", kind="veth", peer=peer)
                index = socket.if_nametoindex(f"p{number}")
                link.link("set", index=index, master=bridge, state="up")

    def _arrive(self, number: int) -> None:
        with IPRoute() as link:
            for name in ("ul", "lo"):
                link.link("set", index=socket.if_nametoindex(name), state="up")
            index = socket.if_nametoindex("ul")
            link.addr("add", index=index, address=UNDERLAY[number], prefixlen=24)
            # As on a host with a way to the world: what is let out would leave.
            link.route("add", dst="default", gateway=UNDERLAY[2], family=socket.AF_INET)
        for name in ("all", "default"):
            Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("0")

    def close(self) -> None:
        close(self.hub, *self.hosts, self.world.home)


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


class Node:
    def __init__(self, wire: Wire, number: int, settings: Settings) -> None:
        self.wire, self.number = wire, number
        network = NetworkSettings(
            enabled=True, slots=16, warm=0, firewall="nftables", resolvers=[UNDERLAY[2]],
            ipv4=f"10.{61 + number}.0.0/24", ipv6=f"fd61:{number}::/112",
            overlay=UNDERLAY[number],
        )  # fmt: skip
        self.settings = Settings(instance=settings.instance, redis=settings.redis, network=network)
        self.directory = OverlayDirectory(self.settings)
        self.driver: EgressNetwork = self._in(lambda: EgressNetwork("o", network))
        self.guard: Guard = self._in(lambda: Guard(self.settings, self.driver))
        self.overlay = Overlay(
            f"node{number}", UNDERLAY[number], self.driver, self.guard, self.directory
        )
        self.tasks = [asyncio.create_task(work) for work in (self.guard.run(), self.overlay.run())]
        self.slots: list[EgressSlot] = []

    def _in(self, work: Callable[[], T]) -> T:
        return self.wire.world.inside(self.wire.hosts[self.number], work)

    async def add(self, group: str, name: str, rules: EgressPolicy = NOTHING) -> EgressSlot:
        slot = await asyncio.to_thread(self.driver.take)
        await asyncio.to_thread(self.driver.assign, slot, rules, group)
        await self.guard.assign(slot, rules, name)
        if group:
            await self.overlay.joined(slot, name)
        self.slots.append(slot)
        return slot

    async def end(self, slot: EgressSlot) -> None:
        self.slots.remove(slot)
        self.guard.release(slot)
        self.overlay.left(slot)
        await asyncio.to_thread(self.driver.give_back, slot)

    def lookup(self, slot: EgressSlot, name: str, kind: str = "A") -> str:
        question = dns.message.make_query(f"{name}.internal.", kind)
        router = str(self.driver.plan.router4)
        answer = self.wire.world.inside(
            slot.fd, lambda: dns.query.udp(question, router, timeout=2)
        ).answer
        return answer[0][0].to_text() if answer else ""

    async def close(self) -> None:
        for slot in list(self.slots):
            await self.end(slot)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.to_thread(self.driver.close)
        await self.directory.close()


@pytest.fixture
async def nodes(wire: Wire, redis_url: str) -> AsyncIterator[tuple[Node, Node]]:
    settings = Settings(instance=f"t{uuid4().hex[:8]}", redis=RedisSettings(url=redis_url))
    left, right = (Node(wire, number, settings) for number in range(2))
    try:
        yield left, right
    finally:
        await left.close()
        await right.close()


async def until(work: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(work):
            await asyncio.sleep(0.05)


def heard(world: World, to: EgressSlot, by: EgressSlot, family: int = socket.AF_INET) -> bool:
    """Whether a datagram of one sandbox reaches another, and the answer comes back."""
    address = str(to.addresses.ipv4 if family == socket.AF_INET else to.addresses.ipv6)
    server = world.inside(to.fd, lambda: socket.socket(family, socket.SOCK_DGRAM))
    with server:
        server.bind((address, 7000))
        server.settimeout(0.3)
        with ExitStack() as made:
            asking = made.enter_context(
                world.inside(by.fd, lambda: socket.socket(family, socket.SOCK_DGRAM))
            )
            asking.settimeout(0.3)
            try:
                asking.sendto(b"hi", (address, 7000))
                data, peer = server.recvfrom(10)
                server.sendto(data.upper(), peer)
                return asking.recv(10) == b"HI"
            except OSError:
                return False


async def test_a_group_spans_nodes_and_reaches_nobody_else(nodes: tuple[Node, Node]) -> None:
    left, right = nodes
    world = left.wire.world
    web = await left.add("ann/red", "web")
    database = await right.add("ann/red", "db")
    blue = await right.add("ann/blue", "db")
    other = await right.add("bob/red", "other")
    narrow = await right.add("ann/red", "narrow", OTHER)
    alone = await right.add("", "")
    await until(lambda: heard(world, database, web))
    for family in (socket.AF_INET, socket.AF_INET6):
        assert heard(world, web, database, family) and heard(world, database, web, family)
        for stranger in (blue, other, narrow, alone):
            assert not heard(world, stranger, web, family)
            assert not heard(world, web, stranger, family)
    assert left.lookup(web, "db") == str(database.addresses.ipv4)
    assert left.lookup(web, "db", "AAAA") == str(database.addresses.ipv6)
    assert right.lookup(database, "web") == str(web.addresses.ipv4)
    assert left.lookup(web, "other") == left.lookup(web, "narrow") == ""
    assert right.lookup(other, "web") == ""
    # A packet as large as a sandbox can send crosses whole.
    large = await asyncio.to_thread(_large, world, database, web)
    assert large


def _large(world: World, to: EgressSlot, by: EgressSlot) -> bool:
    """A stream of some megabytes, both ends in sandboxes."""
    server = world.inside(to.fd, lambda: socket.create_server((str(to.addresses.ipv4), 7001)))
    with server:
        line = world.inside(
            by.fd, lambda: socket.create_connection((str(to.addresses.ipv4), 7001), 3)
        )
        with line:
            got, (taken, _) = 0, server.accept()
            with taken:
                taken.settimeout(3)
                for _ in range(20):
                    line.sendall(bytes(100_000))
                    left = 100_000
                    while left:
                        left -= len(taken.recv(left))
                    got += 100_000
            return got == 2_000_000


async def test_who_has_gone_is_gone_and_his_address_is_not_his_next(
    nodes: tuple[Node, Node],
) -> None:
    left, right = nodes
    world = left.wire.world
    web = await left.add("ann/red", "web")
    database = await right.add("ann/red", "db")
    await until(lambda: heard(world, database, web))
    await right.end(database)
    await until(lambda: left.lookup(web, "db") == "")
    # Somebody else's comes to the node; whatever address it has, it is none of the group's.
    next_ = await right.add("bob/red", "db")
    assert not heard(world, next_, web) and not heard(world, web, next_)
    # The whole node says farewell.
    again = await right.add("ann/red", "db")
    await until(lambda: heard(world, again, web))
    right.tasks[1].cancel()
    await asyncio.gather(right.tasks[1], return_exceptions=True)
    await until(lambda: left.lookup(web, "db") == "")
    assert not heard(world, web, again)


async def test_a_stranger_on_the_wire_speaks_for_nobody(nodes: tuple[Node, Node]) -> None:
    """VXLAN has no secret: its packets count from nodes' addresses alone, and lead to sandboxes alone."""
    left, right = nodes
    world, wire = left.wire.world, left.wire
    web = await left.add("ann/red", "web")
    database = await right.add("ann/red", "db")
    await until(lambda: heard(world, database, web))
    server = world.inside(web.fd, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    node = world.inside(wire.hosts[0], lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with server, node:
        for one, address in (
            (server, str(web.addresses.ipv4)),
            (node, str(left.driver.plan.router4)),
        ):
            one.bind((address, 7000))
            one.settimeout(0.3)
        ether = _mac(left) + _mac(right) + b"\x08\0"
        vxlan = b"\x08\0\0\0" + (5_213).to_bytes(3, "big") + b"\0"
        source, targets = str(database.addresses.ipv4), (server, node)
        for target in targets:
            packet = vxlan + ether + _datagram(source, target.getsockname()[0])
            for host, arrives in ((2, False), (1, target is server)):
                sender = world.inside(
                    wire.hosts[host], lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                )
                with sender:
                    sender.sendto(packet, (UNDERLAY[0], 4_789))
                try:
                    got = target.recv(100) == b"forged"
                except TimeoutError:
                    got = False
                assert got == arrives, (host, target)
        # Nor does a node of ours carry what is for no sandbox of its own.
        assert not world.inside(
            wire.hosts[1], lambda: reaches(udp, str(left.driver.plan.router4), 7000)
        )


def _mac(node: Node) -> bytes:
    return b"\x02^" + node.driver.plan.ipv4[0].packed


def _datagram(source: str, target: str) -> bytes:
    data = b"forged"
    udp_ = (7000).to_bytes(2, "big") * 2 + (8 + len(data)).to_bytes(2, "big") + b"\0\0" + data
    head = bytearray(b"E\0" + (20 + len(udp_)).to_bytes(2, "big") + b"\0\1\0\0@\x11\0\0")
    head += socket.inet_aton(source) + socket.inet_aton(target)
    total = sum(int.from_bytes(head[i : i + 2], "big") for i in range(0, 20, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    head[10:12] = (~total & 0xFFFF).to_bytes(2, "big")
    return bytes(head) + udp_
