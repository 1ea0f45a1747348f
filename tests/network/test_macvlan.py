"""Sandboxes on the network of one of the host's interfaces: what leaves their device, what comes in."""

import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from sandboxd.drivers.network.egress import EgressNetwork
from sandboxd.drivers.network.macvlan.table import DEVICE
from sandboxd.drivers.network.slots import EgressSlot
from sandboxd.errors import DriverFault, Overload
from sandboxd.model.egress import EgressPolicy, EgressRule
from sandboxd.native import new_netns
from tests.network.driven import ANY_UDP, ANYWHERE, network, policy, sandbox
from tests.network.lan import OWN4, OWN6, ROUTER4, ROUTER6, Lan, making, on_lan, unplug
from tests.network.test_lives import transfer
from tests.network.test_takeaway import CASES, Case, folded, own_address
from tests.network.world import OTHER4, OTHER6, PUBLIC4, PUBLIC6, World, tcp, udp

pytestmark = pytest.mark.root

OPEN = policy(*ANYWHERE, *ANY_UDP, interface="lan")
NARROW = policy(EgressRule(cidr=OTHER4), EgressRule(cidr=OTHER6), interface="lan")
LOCAL = ["192.168.77.0/24", "fd77::/64"]
HERE = frozenset(
    {
        "spoofed", "options", "invalid", "floor", "default", "deny", "closed", "inbound", "packets",
        "bytes", "new", "connections",
    }
)  # fmt: skip
"""Rules that stand in the sandbox's namespace."""


@pytest.fixture(scope="module")
def lan(world: World) -> Iterator[Lan]:
    with making(world) as made:
        yield made


@contextmanager
def on(lan: Lan, omit: frozenset[str] = frozenset(), **settings: object) -> Iterator[EgressNetwork]:
    with network(omit=omit, macvlan={"lan": on_lan(**settings)}) as net:  # type: ignore[arg-type]
        yield net


def stopped(world: World, slot: EgressSlot, rule: str) -> int:
    """Packets that the rules of this name have met in the sandbox's namespace."""
    listed = world.inside(
        slot.fd,
        lambda: subprocess.run(
            ["nft", "list", "ruleset"], capture_output=True, text=True, check=True
        ),
    )
    lines = [line for line in listed.stdout.splitlines() if f'comment "{rule}"' in line]
    return sum(int(line.split("counter packets ")[1].split()[0]) for line in lines)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.rule in HERE], ids=lambda case: case.rule
)
def test_rule_stops_its_probe_and_nothing_else_does(world: World, lan: Lan, case: Case) -> None:
    """The probes of the node's firewall, on the interface's network."""
    through = {}
    asked = EgressPolicy(
        **{name: getattr(case.policy, name) for name in EgressPolicy.__struct_fields__}
        | {"interface": "lan"}
    )
    for omit in (frozenset[str](), frozenset({case.rule})):
        with on(lan, omit) as net, sandbox(net, asked) as slot:
            if case.rule == "spoofed":  # who asks for the router as somebody else gets no answer
                world.inside(slot.fd, lambda: udp(PUBLIC6, 4000))
            lan.beyond.settle()
            lan.beyond.packets.clear()
            through[omit] = [case.probe(lan.beyond, net, slot, family) for family in (4, 6)]
            if not omit:
                assert stopped(world, slot, case.rule), "the rule has met no packet"
    assert through[frozenset()] == [False, False]
    assert through[frozenset({case.rule})] == [True, True]


def frames(slot: EgressSlot, router: str) -> dict[str, bytes]:
    """What only a process with rights over the namespace could send: others' addresses of each kind."""
    own = bytes.fromhex(slot.port.seat.mac.replace(":", ""))  # type: ignore[union-attr]
    other, target = bytes.fromhex("025f00000001"), bytes.fromhex(router.replace(":", ""))
    mine, forged = (socket.inet_aton(text) for text in (own_address(slot, 4), OTHER4))
    datagram = struct.pack("!HHHH", 4001, 4000, 8, 0)

    def packet(source: bytes) -> bytes:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 17, 0) + source
        head += socket.inet_aton(PUBLIC4)
        return head[:10] + struct.pack("!H", folded(head)) + head[12:] + datagram

    def question(source: bytes) -> bytes:
        head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
        return head + own + source + bytes(6) + socket.inet_aton(ROUTER4)

    return {
        "link address": target + other + b"\x08\x00" + packet(mine),
        "address": target + own + b"\x08\x00" + packet(forged),
        "question": b"\xff" * 6 + own + b"\x08\x06" + question(socket.inet_aton("192.168.77.9")),
        "of no kind": target + own + b"\x88\xb5" + bytes(46),
    }


def put_on_the_wire(frame: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as line:
        line.bind((DEVICE, 0))
        with suppress(OSError):
            line.send(frame)


@contextmanager
def wire(lan: Lan) -> Iterator[Callable[[], list[bytes]]]:
    """Every frame that comes to the router."""
    line = lan.beyond.inside(
        lan.beyond.inet, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    )
    with line:
        line.bind(("up", 3))
        line.setblocking(False)

        def seen() -> list[bytes]:
            lan.beyond.settle()
            found = []
            with suppress(BlockingIOError):
                while True:
                    found.append(line.recv(2_048))
            return found

        yield seen


def test_no_frame_leaves_that_speaks_for_another(world: World, lan: Lan) -> None:
    through = {}
    for omit in (frozenset[str](), frozenset({"spoofed"})):
        with on(lan, omit) as net, sandbox(net, OPEN) as slot, wire(lan) as seen:
            router = lan.beyond.inside(lan.beyond.inet, lambda: _link_address("up"))
            for frame in frames(slot, router).values():
                world.inside(slot.fd, lambda f=frame: put_on_the_wire(f))
            came = seen()
            through[omit] = {
                name for name, frame in frames(slot, router).items() if _came(frame, came)
            }
            assert world.inside(slot.fd, lambda: udp(PUBLIC4, 4000)) == b"hello"
            assert world.inside(slot.fd, lambda: udp(PUBLIC6, 4000)) == b"hello"
    assert through[frozenset()] == set()
    assert through[frozenset({"spoofed"})] == {"link address", "address", "question", "of no kind"}


def _came(frame: bytes, came: list[bytes]) -> bool:
    return any(other.startswith(frame) for other in came)


def _link_address(device: str) -> str:
    with IPRoute() as link:
        (found,) = link.get_links(ifname=device)
        return str(found.get_attr("IFLA_ADDRESS"))


@pytest.mark.parametrize("family", [4, 6])
def test_nothing_leaves_before_its_rules_stand_nor_after_its_end(
    world: World, lan: Lan, family: int
) -> None:
    """A program that sends all the time, from before its device is there until it is gone."""
    allowed, closed = (OTHER4, PUBLIC4) if family == 4 else (OTHER6, PUBLIC6)
    udp_to_one = policy(EgressRule(cidr=allowed, protocol="udp"), interface="lan")
    stop = threading.Event()
    with on(lan) as net:
        slot = net.take()

        def hammer() -> None:
            kind = socket.AF_INET if family == 4 else socket.AF_INET6
            with socket.socket(kind, socket.SOCK_DGRAM) as sender:
                while not stop.is_set():
                    for target in (closed, allowed):
                        with suppress(OSError):
                            sender.sendto(b"hammer", (target, 4000))
                    time.sleep(0.0005)

        hammering = threading.Thread(target=lambda: world.inside(slot.fd, hammer))
        hammering.start()
        try:
            for _ in range(3):
                lan.beyond.settle()
                lan.beyond.packets.clear()
                net.assign(slot, udp_to_one)
                _until(lambda: lan.beyond.arrived(allowed, 4000))
                slot.port.close()  # type: ignore[union-attr]
                net.assign(slot, policy())  # off the interface
                assert not lan.beyond.arrived(closed)
                lan.beyond.packets.clear()
                time.sleep(0.05)
                assert not lan.beyond.arrived(allowed)
        finally:
            stop.set()
            hammering.join()
            net.give_back(slot)


def _until(there: Callable[[], object], within: float = 20) -> None:
    deadline = time.monotonic() + within
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("target", [PUBLIC4, PUBLIC6])
def test_a_flow_that_is_open_is_cut_when_its_policy_narrows(
    world: World, lan: Lan, target: str
) -> None:
    with on(lan) as net, sandbox(net, OPEN) as slot:
        connection = world.inside(slot.fd, lambda: socket.create_connection((target, 8080), 1))
        with connection:
            connection.sendall(b"before")
            assert connection.recv(100) == b"before"
            net.assign(slot, NARROW)
            lan.beyond.settle()
            lan.beyond.packets.clear()
            with pytest.raises(OSError):
                for _ in range(20):
                    connection.sendall(b"after")
                    connection.recv(100)
        assert not lan.beyond.arrived(target)
        other = OTHER4 if target == PUBLIC4 else OTHER6
        assert world.inside(slot.fd, lambda: tcp(other, 8080)) == b"hello"


def test_its_network_is_closed_unless_the_settings_open_it_and_its_host_in_any_case(
    world: World, lan: Lan
) -> None:
    """The router itself, and the node's host, which a router could lead back to."""
    for private in ([], LOCAL):
        with on(lan, private=private) as net, sandbox(net, OPEN) as slot:
            for target, own in ((ROUTER4, OWN4), (ROUTER6, OWN6)):
                within = 10 if private else 0.3
                found = world.inside(slot.fd, lambda t=target, w=within: _connects(t, 8080, w))
                assert found == bool(private), target
                before = stopped(world, slot, "floor")
                assert not world.inside(slot.fd, lambda o=own: _connects(o, 8080, 0.3))
                assert stopped(world, slot, "floor") > before


def test_two_hosts_have_sandboxes_there_that_do_not_see_each_other(world: World, lan: Lan) -> None:
    """Each has a node and an interface of its own on one switch. What a sandbox listens to is nobody's,
    whatever is opened; what the other host itself offers is reached where the settings open it."""
    host = new_netns()
    with ExitStack() as made:
        made.callback(os.close, host)
        lan.plug(host, "lan0", "192.168.77.3/24", "fd77::3/64")
        here = made.enter_context(on(lan, private=LOCAL))
        away = made.enter_context(_at(world, host, on(lan, offset=96, private=LOCAL)))
        mine, other = (made.enter_context(sandbox(net, OPEN)) for net in (here, away))
        for family in (4, 6):
            address = own_address(other, family)
            made.enter_context(world.inside(other.fd, lambda f=family: _listener(f)))
            assert world.inside(other.fd, lambda a=address: _connects(a, 8080))
            before = stopped(world, other, "inbound")
            assert not world.inside(mine.fd, lambda a=address: _connects(a, 8080, 0.3))
            assert stopped(world, other, "inbound") > before
            made.enter_context(world.inside(host, lambda f=family: _listener(f)))
            target = "192.168.77.3" if family == 4 else "fd77::3"
            assert world.inside(mine.fd, lambda t=target: _connects(t, 8080))
        assert world.inside(other.fd, lambda: udp(PUBLIC4, 4000)) == b"hello"


@contextmanager
def _at(
    world: World, host: int, making: AbstractContextManager[EgressNetwork]
) -> Iterator[EgressNetwork]:
    """Enter it in another host's namespace, and leave it there."""
    net = world.inside(host, making.__enter__)
    try:
        yield net
    finally:
        world.inside(host, lambda: making.__exit__(None, None, None))


def _listener(family: int) -> socket.socket:
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    return socket.create_server(("", 8080), family=kind)


def _connects(target: str, port: int, within: float = 10) -> bool:
    with suppress(OSError), socket.create_connection((target, port), within):
        return True
    return False


def test_addresses_run_out_as_overload_and_come_back_when_their_device_is_gone(
    world: World, lan: Lan
) -> None:
    with on(lan, ipv4="192.168.77.64/31", ipv6="", gateway6="") as net:
        with sandbox(net, OPEN) as first, sandbox(net, OPEN) as second:
            was = own_address(second, 4)  # which is given back first
            assert was != own_address(first, 4)
            third = net.take()
            with pytest.raises(Overload):
                net.assign(third, OPEN)
            assert third.port is None
            net.give_back(third)
            # Of a family that it has no address of, nothing goes anywhere.
            assert not world.inside(first.fd, lambda: _connects(PUBLIC6, 8080, 0.3))
        with sandbox(net, OPEN) as again:
            assert own_address(again, 4) == was
            assert again.port is not None and again.port.seat.mac.startswith("02:5f:c0:a8:4d")
            assert world.inside(again.fd, lambda: tcp(PUBLIC4, 8080)) == b"hello"


def test_what_it_says_to_itself_takes_no_memory_of_the_kernels(world: World, lan: Lan) -> None:
    """A record of a connection is on nobody's account; the policy bounds those on the interface."""
    count = Path("/proc/sys/net/netfilter/nf_conntrack_count")

    def flood(*targets: str) -> int:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for target in targets:
                for port in range(20_000, 20_400):
                    with suppress(OSError):  # what is told of the one before
                        sender.sendto(b"x", (target, port))
        return int(count.read_text())

    few = policy(*ANY_UDP, interface="lan", connections=5)
    with on(lan) as net, sandbox(net, few) as slot:
        assert world.inside(slot.fd, lambda: flood("127.0.0.1", str(slot.addresses.ipv4))) == 0
        assert 0 < world.inside(slot.fd, lambda: flood(PUBLIC4)) <= 5


def test_what_it_sends_too_fast_waits(world: World, lan: Lan) -> None:
    size, rate = 300_000, 400_000
    shaped = policy(*ANYWHERE, interface="lan", upload=rate)
    with on(lan) as net, sandbox(net, shaped) as slot:
        assert world.inside(slot.fd, lambda: transfer(PUBLIC4, size)) > (size - 150_000) / rate
        sent, received = net.traffic(slot)
        assert min(sent, received) > size


def test_what_it_gets_too_fast_is_dropped(world: World, lan: Lan) -> None:
    """A second's worth at once and no more."""

    def echoed() -> int:
        """Of a thousand datagrams of a thousand bytes."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.connect((PUBLIC4, 4000))
            asking.settimeout(0.002)
            got = 0
            for _ in range(1_000):
                asking.send(bytes(1_000))
                with suppress(TimeoutError):
                    got += bool(asking.recv(2_000))
            return got

    rate = 100_000
    for download in (None, rate):
        shaped = policy(*ANY_UDP, interface="lan", download=download)
        with on(lan) as net, sandbox(net, shaped) as slot:
            begin = time.monotonic()
            got = world.inside(slot.fd, echoed)
            most = (time.monotonic() - begin + 1) * rate / 1_000
            assert got > most if download is None else 0 < got <= most


def test_an_interface_that_goes_takes_its_devices_along_and_no_addresses(
    world: World, lan: Lan
) -> None:
    lan.plug(world.svc, "lan1")
    with on(lan, interface="lan1", ipv4="192.168.77.64/32", ipv6="", gateway6="") as net:
        slot, other = net.take(), net.take()
        net.assign(slot, OPEN)
        slot.port.close()  # type: ignore[union-attr]
        unplug("lan1")
        net.assign(slot, policy())
        assert slot.port is None
        with pytest.raises(DriverFault, match="lan"):
            net.assign(other, OPEN)
        lan.plug(world.svc, "lan1")
        net.assign(other, OPEN)
        assert world.inside(other.fd, lambda: udp(PUBLIC4, 4000)) == b"hello"
        other.port.close()  # type: ignore[union-attr]
        net.give_back(slot)
        net.give_back(other)
    unplug("lan1")


def test_a_slot_that_was_on_an_interface_serves_nobody_else(world: World, lan: Lan) -> None:
    with on(lan) as net:
        slot = net.take()
        net.assign(slot, OPEN)
        slot.port.close()  # type: ignore[union-attr]
        net.assign(slot, policy())
        assert slot.port is None
        net.give_back(slot)
        next_one = net.take()
        assert next_one is not slot
        net.give_back(next_one)
