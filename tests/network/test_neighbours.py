"""What one member of a group tells another of ways and neighbours, as only a process with rights over its
network namespace could: it changes nothing, and what speaks as the gateway does not arrive."""

import socket
import struct
from contextlib import suppress
from functools import partial

import pytest
from pyroute2 import IPRoute

from sandboxd.drivers.network.egress import EgressNetwork
from sandboxd.drivers.network.slots import EgressSlot
from tests.network.driven import network, policy
from tests.network.test_takeaway import folded
from tests.network.world import OTHER4, PUBLIC4, PUBLIC6, World

pytestmark = pytest.mark.root

_GATEWAY4, _GATEWAY6 = "169.254.1.1", "fe80::1"
_PERMANENT = 0x80
_MARK = b"told by a neighbour"


def ipv4(source: str, target: str, kind: int, rest: bytes) -> bytes:
    """An ICMP message."""
    body = struct.pack("!BBH", kind, 1, 0) + rest + _MARK
    body = body[:2] + struct.pack("!H", folded(body + b"\0" * (len(body) % 2))) + body[4:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 1, 0)
    head += socket.inet_aton(source) + socket.inet_aton(target)
    return b"\x08\x00" + head[:10] + struct.pack("!H", folded(head)) + head[12:] + body


def ipv6(source: str, target: str, kind: int, rest: bytes) -> bytes:
    body = struct.pack("!BBH", kind, 0, 0) + rest + _MARK
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    whole = ends + struct.pack("!II", len(body), 58) + body
    total = folded(whole + b"\0" * (len(whole) % 2))
    body = body[:2] + struct.pack("!H", total) + body[4:]
    return b"\x86\xdd" + struct.pack("!IHBB", 0x60000000, len(body), 58, 255) + ends + body


def forged(target: EgressSlot, own: tuple[str, str], as4: str, as6: str) -> list[bytes]:
    """A redirect of each family, a router's and a neighbour's advertisement."""
    mate4, mate6 = map(str, (target.addresses.ipv4, target.addresses.ipv6))
    packet = ipv4(mate4, PUBLIC4, 8, bytes(4))[2:30]
    public, lladdr = socket.inet_pton(socket.AF_INET6, PUBLIC6), b"\2\1\x02\x5f\0\0\0\1"
    router = socket.inet_pton(socket.AF_INET6, _GATEWAY6)
    return [
        ipv4(as4, mate4, 5, socket.inet_aton(own[0]) + packet),
        ipv6(as6, mate6, 137, bytes(4) + socket.inet_pton(socket.AF_INET6, own[1]) + public),
        ipv6(as6, mate6, 134, struct.pack("!BBHII", 64, 0, 1800, 0, 0) + b"\1" + lladdr[1:]),
        ipv6(as6, mate6, 136, struct.pack("!I", 0x60000000) + router + lladdr),
    ]


def send(slot: EgressSlot, packets: list[bytes]) -> None:
    ends = bytes.fromhex(slot.addresses.mac.replace(":", "")) * 2
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as line:
        line.bind(("eth0", 0))
        for packet in packets:
            line.send(ends + packet)


def heard(line: socket.socket) -> int:
    found = 0
    with suppress(BlockingIOError):
        while True:
            found += _MARK in line.recv(2_048, socket.MSG_DONTWAIT)
    return found


def ways() -> list[object]:
    """What the calling thread's namespace knows of ways, and has been told by the node of neighbours."""
    with IPRoute() as link:
        routes = [
            (route.get_attr("RTA_DST"), route.get_attr("RTA_GATEWAY"), route.get_attr("RTA_OIF"))
            for aim in (PUBLIC4, OTHER4, PUBLIC6)
            for route in link.route("get", dst=aim)
        ]
        neighbours = [
            (str(each.get_attr("NDA_DST")), each.get_attr("NDA_LLADDR"))
            for each in link.get_neighbours()
            if each["state"] & _PERMANENT
        ]
        return [routes, sorted(neighbours)]


def test_no_member_speaks_as_the_gateway_or_turns_another_aside(world: World) -> None:
    with network() as net:
        arrived = told(world, net)
    assert arrived["own"], "members reach one another"
    assert not arrived["gateway"]


def told(world: World, net: EgressNetwork) -> dict[str, int]:
    """How many of each kind came to another member."""
    slots = [net.take(), net.take()]
    for slot in slots:
        net.assign(slot, policy(), "red")
    one, other = slots
    own = (str(one.addresses.ipv4), str(one.addresses.ipv6))
    line = world.inside(
        other.fd, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    )
    arrived = {}
    with line:
        line.bind(("eth0", 3))
        before = world.inside(other.fd, ways), ways()
        for name, speaker in (("own", own), ("gateway", (_GATEWAY4, _GATEWAY6))):
            packets = forged(other, own, *speaker)
            world.inside(one.fd, partial(send, one, packets))
            world.settle()
            arrived[name] = heard(line)
        assert (world.inside(other.fd, ways), ways()) == before
    for slot in slots:
        net.give_back(slot)
    return arrived
