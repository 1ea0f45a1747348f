"""Group networks that span nodes: two namespaces as two hosts, on one wire that nobody else has."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from uuid import uuid4

import pytest

from sandboxd.drivers.network import wireguard
from sandboxd.drivers.network.egress import EgressNetwork
from sandboxd.drivers.network.slots import EgressSlot
from sandboxd.errors import DriverFault
from sandboxd.node import doctor
from sandboxd.settings import NetworkSettings, RedisSettings, Settings
from tests.network.hosts import OTHER, UNDERLAY, Node, Wire, forged, heard, until
from tests.network.world import World, reaches, udp

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


@pytest.fixture
async def nodes(wire: Wire, redis_url: str) -> AsyncIterator[tuple[Node, Node]]:
    settings = Settings(instance=f"t{uuid4().hex[:8]}", redis=RedisSettings(url=redis_url))
    left, right = (Node(wire, number, settings) for number in range(2))
    try:
        yield left, right
    finally:
        await left.close()
        await right.close()


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
        source, targets = str(database.addresses.ipv4), (server, node)
        for target in targets:
            packet = forged(right, left, source, target.getsockname()[0])
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


def test_without_wireguard_in_the_kernel_nothing_is_sent_in_the_clear_instead(
    wire: Wire,
) -> None:
    with suppress(DriverFault):
        wireguard.require()
        pytest.skip("this kernel has WireGuard: tests/vm/inside/test_wireguard.py")
    settings = NetworkSettings(
        enabled=True, slots=1, warm=0, firewall="nftables", overlay=UNDERLAY[2],
        overlay_encryption="wireguard",
    )  # fmt: skip
    with pytest.raises(DriverFault, match="find WireGuard"):
        wire.world.inside(wire.hosts[2], lambda: EgressNetwork("w", settings))
    assert doctor.network(Settings(network=settings)).bad
    devices = wire.world.inside(wire.hosts[2], socket.if_nameindex)
    assert {name for _, name in devices} == {"lo", "ul"}
