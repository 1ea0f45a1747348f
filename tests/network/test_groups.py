"""Group networks, and what the guard itself may reach: a driver and a guard without sandboxes."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import dns.exception
import dns.message
import dns.query
import pytest

from sandboxd.drivers.network.egress import EgressNetwork
from sandboxd.model.egress import EgressRule
from sandboxd.node.network_guard import Guard
from sandboxd.settings import NetworkSettings, Settings
from tests.network.driven import policy
from tests.network.world import NAMESERVER, PUBLIC4, World, reaches, tcp, udp

pytestmark = pytest.mark.root

NOTHING = policy()


@pytest.fixture(params=["nftables", "iptables"])
async def guarded(
    world: World, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[EgressNetwork, Guard]]:
    settings = Settings(
        network=NetworkSettings(
            enabled=True, slots=16, warm=0, firewall=request.param, resolvers=[NAMESERVER]
        )
    )
    network = await asyncio.to_thread(EgressNetwork, f"g{request.param}", settings.network)
    guard = Guard(settings, network)
    running = asyncio.create_task(guard.run())
    try:
        yield network, guard
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await asyncio.to_thread(network.close)


async def test_sandboxes_of_one_network_see_one_another_by_name_and_nobody_else(
    world: World, guarded: tuple[EgressNetwork, Guard]
) -> None:
    network, guard = guarded
    slots = []
    for name, member in (("red", "web"), ("red", "db"), ("blue", "web"), ("", "")):
        slot = await asyncio.to_thread(network.take)
        await asyncio.to_thread(network.assign, slot, NOTHING, name)
        await guard.assign(slot, NOTHING, member)
        slots.append(slot)
    web, db, blue, alone = slots

    def look() -> None:
        servers = []
        for kind, address in (
            (socket.AF_INET, db.addresses.ipv4),
            (socket.AF_INET6, db.addresses.ipv6),
        ):
            server = world.inside(db.fd, lambda k=kind: socket.socket(k, socket.SOCK_DGRAM))
            server.bind((str(address), 7000))
            server.settimeout(0.3)
            servers.append(server)
        for server in servers:
            address = server.getsockname()[0]
            for slot, heard in ((web, True), (blue, False), (alone, False)):
                world.inside(slot.fd, lambda s=slot, a=address: reaches(udp, a, 7000, b"hi", 0.05))
                try:
                    got = server.recv(10) == b"hi"
                except TimeoutError:
                    got = False
                assert got == heard, (slot.addresses, address)
            server.close()
        router = str(network.plan.router4)
        for kind, address in (("A", db.addresses.ipv4), ("AAAA", db.addresses.ipv6)):
            question = dns.message.make_query("db.internal.", kind)
            answer = world.inside(web.fd, lambda q=question: dns.query.udp(q, router, timeout=2))
            assert answer.answer[0][0].to_text() == str(address)
        question = dns.message.make_query("db.internal.", "A")
        assert not world.inside(blue.fd, lambda: dns.query.udp(question, router, timeout=2)).answer
        with pytest.raises(dns.exception.Timeout):
            world.inside(alone.fd, lambda: dns.query.udp(question, router, timeout=0.3))

    await asyncio.to_thread(look)
    for slot in slots:
        await asyncio.to_thread(network.give_back, slot)


async def test_the_guards_user_reaches_nobody_in_the_floor(
    world: World, guarded: tuple[EgressNetwork, Guard]
) -> None:
    program = (
        "import os, socket, sys\n"
        "os.setgid(64323); os.setuid(64323)\n"
        "for target in sys.argv[1:]:\n"
        "    address, port = target.rsplit('|', 1)\n"
        "    try:\n"
        "        socket.create_connection((address, int(port)), 0.5).close()\n"
        "        print('yes')\n"
        "    except OSError:\n"
        "        print('no')\n"
    )

    def look() -> list[str]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            local = f"127.0.0.1|{server.getsockname()[1]}"
            targets = [local, "10.1.2.3|80", "fd99::9|80", "198.51.100.10|80", "2600:db8::10|80"]
            ran = subprocess.run(
                [sys.executable, "-c", program, *targets],
                capture_output=True,
                text=True,
                check=True,
            )
            return ran.stdout.split()

    assert await asyncio.to_thread(look) == ["no", "no", "no", "yes", "yes"]


async def test_a_name_that_a_live_policy_loses_is_lost_at_once(
    world: World, guarded: tuple[EgressNetwork, Guard]
) -> None:
    """A connection through the proxy is cut, and the address that was answered is closed again."""
    network, guard = guarded
    world.names = {("one.example.org", "A"): [PUBLIC4]}
    named = policy(EgressRule(domain="one.example.org"))
    other = policy(EgressRule(domain="two.example.org"))
    router = str(network.plan.router4)
    slot = await asyncio.to_thread(network.take)
    await asyncio.to_thread(network.assign, slot, named)
    await guard.assign(slot, named)
    request = b"GET / HTTP/1.1\r\nHost: one.example.org\r\n\r\n"

    def begin() -> socket.socket:
        question = dns.message.make_query("one.example.org.", "A")
        answer = world.inside(slot.fd, lambda: dns.query.udp(question, router, timeout=2))
        assert answer.answer[0][0].to_text() == PUBLIC4
        connection = world.inside(slot.fd, lambda: socket.create_connection((PUBLIC4, 80), 2))
        connection.sendall(request)
        assert connection.recv(1_000) == request
        return connection

    def end(connection: socket.socket) -> None:
        world.said.clear()
        with connection, pytest.raises(OSError):
            for _ in range(10):
                connection.sendall(request)
                if not connection.recv(1_000):
                    raise ConnectionError("ended")
        world.packets.clear()
        assert not world.inside(slot.fd, lambda: reaches(tcp, PUBLIC4, 80, request))
        world.settle()
        assert not world.said
        assert not any(request in packet.payload for packet in world.packets)

    connection = await asyncio.to_thread(begin)
    await asyncio.to_thread(network.assign, slot, other)
    await guard.assign(slot, other)
    await asyncio.to_thread(end, connection)
    await asyncio.to_thread(network.give_back, slot)
