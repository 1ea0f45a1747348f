"""Each rule stops something, and a firewall without it does not: one probe per rule, for IPv4 and
IPv6.

A probe says whether its packets got through, by what arrived. It must not get through with all rules,
and must without the rule that it is for.
"""

import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from pyroute2 import IPRoute

from sandboxd.drivers.network.egress import EgressNetwork
from sandboxd.drivers.network.slots import EgressSlot
from sandboxd.model.egress import EgressPolicy, EgressRule
from sandboxd.settings import NetworkSettings
from tests.network.driven import ANY_UDP, ANYWHERE, network, policy, sandbox
from tests.network.world import (
    FLOOR4,
    FLOOR6,
    OTHER4,
    OTHER6,
    PUBLIC4,
    PUBLIC6,
    World,
    call,
    knock,
)

pytestmark = pytest.mark.root

_told = suppress(PermissionError)
"""A rule that stands in the sender's own namespace says so."""
Probe = Callable[[World, EgressNetwork, EgressSlot, int], bool]
OPEN = policy(*ANYWHERE, *ANY_UDP)


@dataclass(frozen=True)
class Case:
    rule: str
    probe: Probe
    policy: EgressPolicy = field(default_factory=lambda: OPEN)
    nat: bool = True


def spoofed(world: World, _: EgressNetwork, slot: EgressSlot, family: int) -> bool:
    """A datagram from somebody else's address."""
    source, target = (OTHER4, PUBLIC4) if family == 4 else (OTHER6, PUBLIC6)

    def send() -> None:
        with IPRoute() as link:
            bits = 32 if family == 4 else 128
            link.addr("add", index=1, address=source, prefixlen=bits, flags=2)
        with _udp_socket(family) as sender:
            sender.bind((source, 4001))
            with _told:
                sender.sendto(b"spoofed", (target, 4000))

    world.inside(slot.fd, send)
    return bool(world.arrived(target, 4000, source=source))


def options(world: World, _: EgressNetwork, slot: EgressSlot, family: int) -> bool:
    """A datagram whose header has options: IPv4's own, or an extension header of IPv6."""
    target = PUBLIC4 if family == 4 else PUBLIC6
    before = len(world.packets)

    def send() -> None:
        with _udp_socket(family) as sender:
            if family == 4:
                sender.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\1\1\1\1")
            else:
                padding = b"\0\0\1\4\0\0\0\0"
                sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, padding)
            with _told:
                sender.sendto(b"options", (target, 4000))

    world.inside(slot.fd, send)
    world.settle()
    return any(packet.target == target for packet in world.packets[before:])


def invalid(world: World, _: EgressNetwork, slot: EgressSlot, family: int) -> bool:
    """A TCP segment that no connection can have: SYN and FIN at once."""
    target = PUBLIC4 if family == 4 else PUBLIC6
    before = len(world.packets)
    own = own_address(slot, family)

    def send() -> None:
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        segment = struct.pack("!HHIIBBHHH", 4001, 8080, 1, 0, 5 << 4, 0x03, 1024, 0, 0)
        segment = segment[:16] + struct.pack("!H", _checksum(own, target, segment)) + segment[18:]
        with socket.socket(kind, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw, _told:
            raw.sendto(segment, (target, 0))

    world.inside(slot.fd, send)
    world.settle()
    return any(packet.target == target for packet in world.packets[before:])


def floor(world: World, _: EgressNetwork, slot: EgressSlot, family: int) -> bool:
    """Any address of the floor, by TCP and UDP."""
    targets = FLOOR4 if family == 4 else FLOOR6
    for target in targets:
        world.inside(slot.fd, lambda t=target: (knock(t, 80), knock(t, 4000)))
    through = [target for target in targets if world.arrived(target)]
    assert through in ([], list(targets)), "the floor holds for some only"
    return bool(through)


def node(world: World, net: EgressNetwork, slot: EgressSlot, family: int) -> bool:
    """A server of the node's own, on each of its addresses."""
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    addresses = (
        ("192.0.2.2", str(net.plan.router4))
        if family == 4
        else ("2600:1::2", str(net.plan.router6))
    )
    with socket.create_server(("" if family == 4 else "::", 0), family=kind) as server:
        port = server.getsockname()[1]

        def connect(address: str) -> bool:
            try:
                socket.create_connection((address, port), 1).close()
            except OSError:
                return False
            return True

        found = [world.inside(slot.fd, lambda a=address: connect(a)) for address in addresses]
    assert len(set(found)) == 1
    return found[0]


def other(world: World, _: EgressNetwork, slot: EgressSlot, family: int) -> bool:
    """An address that no rule names."""
    return _let_out(world, slot, OTHER4 if family == 4 else OTHER6, 8080)


def denied(world: World, _: EgressNetwork, slot: EgressSlot, family: int) -> bool:
    return _let_out(world, slot, PUBLIC4 if family == 4 else PUBLIC6, 8080)


def mail(world: World, _: EgressNetwork, slot: EgressSlot, family: int) -> bool:
    return _let_out(world, slot, PUBLIC4 if family == 4 else PUBLIC6, 25)


def inbound(world: World, _: EgressNetwork, slot: EgressSlot, family: int) -> bool:
    """A datagram from outside to an open socket of the sandbox."""
    address = own_address(slot, family)
    waiting = world.inside(slot.fd, lambda: _udp_socket(family))
    with waiting:
        waiting.bind((address, 4242))
        waiting.setblocking(False)

        def send() -> None:
            with _udp_socket(family) as sender:
                sender.sendto(b"inbound", (address, 4242))

        world.inside(world.inet, send)
        world.settle()
        try:
            return waiting.recv(64) == b"inbound"
        except BlockingIOError:
            return False


def multicast(world: World, _: EgressNetwork, slot: EgressSlot, family: int) -> bool:
    """What the node says to a group, seen on the sandbox's device."""

    def received() -> int:
        with open("/proc/thread-self/net/dev") as counters:
            return next(int(line.split()[2]) for line in counters if "eth0" in line)

    before = world.inside(slot.fd, received)
    with _udp_socket(family) as sender:
        if family == 4:
            request = struct.pack("4s4si", bytes(4), bytes(4), slot.device)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
            target: tuple[object, ...] = ("224.0.0.1", 4000)
        else:
            target = ("ff02::1", 4000, 0, slot.device)
        try:
            sender.sendto(b"multicast", target)
        except PermissionError:  # how an output rule's drop is told
            return False
    return world.inside(slot.fd, received) > before


def guard(world: World, _: EgressNetwork, __: EgressSlot, family: int) -> bool:
    """What the guard's user sends to addresses of the floor, on a sandbox's behalf or for itself."""
    targets = ("10.1.2.3", "169.254.169.254") if family == 4 else ("fd99::9", "fd00:ec2::254")
    program = (
        "import socket, sys\n"
        "for to in sys.argv[1:]:\n"
        "    with socket.socket(10 if ':' in to else 2, 2) as sender:\n"
        "        try: sender.sendto(b'guard', (to, 8080))\n"
        "        except PermissionError: pass\n"
    )
    user = NetworkSettings().uid
    subprocess.run([sys.executable, "-c", program, *targets], user=user, group=user, check=True)
    through = [target for target in targets if world.arrived(target, 8080)]
    assert through in ([], list(targets))
    return bool(through)


def many_packets(world: World, _: EgressNetwork, slot: EgressSlot, family: int) -> bool:
    """Sixty datagrams of one flow, where five a second are allowed."""
    target = PUBLIC4 if family == 4 else PUBLIC6

    def send() -> None:
        with _udp_socket(family) as sender:
            sender.connect((target, 4000))
            for _ in range(60):
                with _told:
                    sender.send(b"many")

    world.inside(slot.fd, send)
    return world.arrived(target, 4000) > 30


def many_bytes(world: World, _: EgressNetwork, slot: EgressSlot, family: int) -> bool:
    """100 kB to and fro, where 20 kB are allowed."""
    target = PUBLIC4 if family == 4 else PUBLIC6

    def transfer() -> bool:
        try:
            with socket.create_connection((target, 8080), 1.5) as connection:
                got = 0
                for _ in range(50):
                    connection.sendall(bytes(1_000))
                    while got % 1_000 or not got:
                        got += len(connection.recv(1_000 - got % 1_000))
                    got = 0
        except OSError:
            return False
        return True

    return world.inside(slot.fd, transfer)


def many_new(world: World, _: EgressNetwork, slot: EgressSlot, family: int) -> bool:
    """Thirty connections one after the other, where five a second are allowed."""
    target = PUBLIC4 if family == 4 else PUBLIC6

    def send() -> None:
        for _ in range(30):
            with _udp_socket(family) as sender, _told:
                sender.sendto(b"new", (target, 4000))

    world.inside(slot.fd, send)
    return world.arrived(target, 4000) > 20


def many_open(world: World, _: EgressNetwork, slot: EgressSlot, family: int) -> bool:
    """Ten connections at once, where five are allowed."""
    target = PUBLIC4 if family == 4 else PUBLIC6

    def connect() -> int:
        opened = []
        for _ in range(10):
            try:
                opened.append(socket.create_connection((target, 8080), 0.5))
            except OSError:
                break
        for connection in opened:
            connection.close()
        return len(opened)

    return world.inside(slot.fd, connect) > 5


def _let_out(world: World, slot: EgressSlot, target: str, port: int) -> bool:
    world.inside(slot.fd, lambda: call(target, port))
    return bool(world.arrived(target, port))


NAMED = (EgressRule(cidr=PUBLIC4), EgressRule(cidr=PUBLIC6))
CASES = (
    Case("spoofed", spoofed),
    Case("options", options),
    Case("invalid", invalid),
    Case("floor", floor),
    Case("node", node),
    Case("default", other, policy(*NAMED)),
    Case("deny", denied, policy(*ANYWHERE, deny=list(NAMED))),
    Case("closed", mail),
    Case("inbound", inbound, nat=False),
    Case("multicast", multicast),
    Case("guard", guard),
    Case("packets", many_packets, policy(*ANY_UDP, packet_rate=5)),
    Case("bytes", many_bytes, policy(*ANYWHERE, total_bytes=20_000)),
    Case("new", many_new, policy(*ANY_UDP, connection_rate=5)),
    Case("connections", many_open, policy(*ANYWHERE, connections=5)),
)


@pytest.mark.parametrize("firewall", ["nftables", "iptables"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_rule_stops_its_probe_and_nothing_else_does(
    world: World, case: Case, firewall: str
) -> None:
    through = {}
    for omit in (frozenset[str](), frozenset({case.rule})):
        with (
            network(omit=omit, firewall=firewall, nat=case.nat) as net,
            sandbox(net, case.policy) as slot,
        ):
            world.settle()  # neighbours are known
            world.packets.clear()
            through[omit] = [case.probe(world, net, slot, family) for family in (4, 6)]
            if not omit:
                assert net.dropped().get(case.rule), "the rule has met no packet"
    assert through[frozenset()] == [False, False]
    assert through[frozenset({case.rule})] == [True, True]


def own_address(slot: EgressSlot, family: int) -> str:
    addresses = (slot.addresses.ipv4, slot.addresses.ipv6)
    if slot.port is not None:
        addresses = tuple(interface.ip for interface in slot.port.seat.addresses)
    return str(next(address for address in addresses if address.version == family))


def _udp_socket(family: int) -> socket.socket:
    return socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)


def _checksum(source: str, target: str, segment: bytes) -> int:
    kind = socket.AF_INET6 if ":" in source else socket.AF_INET
    data = socket.inet_pton(kind, source) + socket.inet_pton(kind, target)
    data += struct.pack("!HH", socket.IPPROTO_TCP, len(segment)) + segment
    return folded(data)


def folded(data: bytes) -> int:
    """The internet's checksum."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
