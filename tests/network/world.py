"""A small internet of network namespaces: `svc`, where a node may run, and `inet`, all of the rest.

`inet` has public, private, metadata and other addresses, answers TCP and UDP on some ports of all of
them, and records every packet that arrives, whatever became of it. Nothing of it has a name on the
host: the namespaces are held by descriptor and go with the test.
"""

import os
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
from pyroute2 import IPRoute

from sandboxd.drivers.network.namespaces import close, enter, here
from sandboxd.native import new_netns

T = TypeVar("T")

NAMESERVER = "198.51.100.53"
PUBLIC4, OTHER4, PUBLIC6, OTHER6 = "198.51.100.10", "203.0.113.20", "2600:db8::10", "2600:db8::20"
FLOOR4 = (
    "10.1.2.3", "172.16.5.5", "192.168.7.7", "100.64.1.1", "100.100.100.200", "169.254.169.254",
    "168.63.129.16", "198.18.0.9", "192.0.0.192",
)  # fmt: skip
FLOOR6 = (
    "fd00:ec2::254", "fd99::9", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a01:203", "2002:a01:203::1",
    "2001::1",
)  # fmt: skip
TCP_PORTS = (22, 25, 53, 80, 443, 853, 6667, 8000, 8080)
UDP_PORTS = (53, 443, 853, 4000)
_NODAD = 2
_HOPS = 6
"""Devices that a packet goes through to `inet`, those of the question for its neighbour among them."""
_UPLINK = (("192.0.2.1", "192.0.2.2", 30), ("2600:1::1", "2600:1::2", 126))


@dataclass(frozen=True)
class Packet:
    """What `inet` saw arrive."""

    source: str
    target: str
    protocol: int
    port: int
    """Destination port of TCP and UDP, else 0."""
    at: float
    payload: bytes = field(repr=False, default=b"")


class World:
    """Enter it with `making`. The calling thread, and all that it starts, is in `svc`."""

    def __init__(
        self,
        home: int,
        svc: int,
        inet: int,
        marks: tuple[str, ...] = tuple(up[0] for up in _UPLINK),
    ) -> None:
        """`marks` are `inet`'s nearest addresses, by which it is told what has passed."""
        self.home, self.svc, self.inet, self._marks = home, svc, inet, marks
        self.packets: list[Packet] = []
        """In the order of their arrival at `inet`."""
        self.names: dict[tuple[str, str], list[str]] = {}
        """What `inet`'s name server knows: (name, type) -> texts. It hears at every address."""
        self.asked: list[tuple[str, str]] = []
        """Name and type of each question it got."""
        self.said: list[tuple[str, int, bytes]] = []
        """Address, port and first bytes of each TCP connection that `inet` accepted."""

    def arrived(self, target: str, port: int | None = None, *, source: str | None = None) -> int:
        """Packets seen for this address (and port, and source), after what is under way has come."""
        self.settle()
        return sum(
            1
            for packet in list(self.packets)
            if packet.target == target
            and port in (None, packet.port)
            and source in (None, packet.source)
        )

    def settle(self) -> None:
        """Wait until `inet` has seen what was sent before, by what is sent now.

        Each device puts its packets behind those that wait for the same CPU, so what is sent there
        now is behind them; what goes on to another device waits once more, hence the rounds.
        """
        for _ in range(_HOPS):
            start = len(self.packets)
            missing = {
                token for cpu in os.sched_getaffinity(0) for token in _sent_on(cpu, self._marks)
            }
            deadline = time.monotonic() + 20
            while missing := missing - {packet.payload[-8:] for packet in self.packets[start:]}:
                if time.monotonic() > deadline:
                    raise TimeoutError("nothing passes to inet")
                time.sleep(0.001)

    def inside(self, namespace: int, work: Callable[[], T]) -> T:
        """The result of `work`, done in a namespace by a thread of its own."""
        found: list[T] = []
        wrong: list[BaseException] = []

        def run() -> None:
            try:
                enter(namespace)
                found.append(work())
            except BaseException as error:
                wrong.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(120)
        if wrong:
            raise wrong[0]
        return found[0]


def _sent_on(cpu: int, targets: tuple[str, ...]) -> list[bytes]:
    """The last bytes of datagrams that are sent to `inet`'s addresses on that CPU."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        tokens = [secrets.token_bytes(8) for _ in targets]
        for token, target in zip(tokens, targets, strict=True):
            datagram(target, 9, token)
        return tokens
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def making() -> Iterator[World]:
    home = here()
    svc, inet = new_netns(), new_netns()
    world = World(home, svc, inet)
    with ExitStack() as made:
        made.callback(close, home, svc, inet)
        _connect(world)
        stop = threading.Event()
        threads = world.inside(inet, lambda: people(world, stop))
        made.callback(lambda: [thread.join() for thread in threads])
        made.callback(stop.set)
        enter(svc)
        made.callback(enter, home)
        yield world


def _connect(world: World) -> None:
    def outside() -> None:
        with IPRoute() as link:
            link.link(
                "add", ifname="up", kind="veth", peer={"ifname": "up", "net_ns_fd": world.svc}
            )
            index = socket.if_nametoindex("up")
            loopback = socket.if_nametoindex("lo")
            link.link("set", index=index, state="up")
            for theirs, _, length in _UPLINK:
                link.addr("add", index=index, address=theirs, prefixlen=length, flags=_NODAD)
            for address in (NAMESERVER, PUBLIC4, OTHER4, PUBLIC6, OTHER6, *FLOOR4, *FLOOR6):
                bits = 128 if ":" in address else 32
                link.addr("add", index=loopback, address=address, prefixlen=bits)
            # Answers to sources that nobody should see find a way back as well.
            for (_, ours, _), family in zip(
                _UPLINK, (socket.AF_INET, socket.AF_INET6), strict=True
            ):
                link.route("add", dst="default", gateway=ours, family=family)

    def service() -> None:
        # What the host's own settings would do for us is not to be relied on.
        for name in ("all", "default"):
            Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("0")
        with IPRoute() as link:
            index = socket.if_nametoindex("up")
            link.link("set", index=index, state="up")
            for _, ours, length in _UPLINK:
                link.addr("add", index=index, address=ours, prefixlen=length, flags=_NODAD)
            for (theirs, _, _), family in zip(
                _UPLINK, (socket.AF_INET, socket.AF_INET6), strict=True
            ):
                link.route("add", dst="default", gateway=theirs, family=family)

    world.inside(world.inet, outside)
    world.inside(world.svc, service)


def people(world: World, stop: threading.Event) -> list[threading.Thread]:
    """The threads of `inet`: those that listen to the wire, which is its device `up`, and that answer."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    wire.bind(("up", 3))
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    wire.settimeout(0.1)
    listeners = [_listener(socket.SOCK_STREAM, port) for port in TCP_PORTS]
    answering = [_listener(socket.SOCK_DGRAM, port) for port in UDP_PORTS if port != 53]
    names = _listener(socket.SOCK_DGRAM, 53)
    works: list[Callable[[], None]] = [lambda: _record(world, wire, stop)]
    works += [lambda one=one: _accept(world, one, stop) for one in listeners]
    works += [lambda one=one: _answer(one, lambda data: data, stop) for one in answering]
    works.append(lambda: _answer(names, lambda data: _named(world, data), stop))
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    return threads


def _listener(kind: int, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6, kind)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if kind == socket.SOCK_DGRAM:
        # Answer from the address that was asked.
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    listener.bind(("::", port))
    if kind == socket.SOCK_STREAM:
        listener.listen(256)
    listener.settimeout(0.1)
    return listener


def _accept(world: World, listener: socket.socket, stop: threading.Event) -> None:
    with listener:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=_echo, args=(world, connection, stop), daemon=True).start()


def _echo(world: World, connection: socket.socket, stop: threading.Event) -> None:
    """Say everything back, until the other side ends."""
    name = connection.getsockname()
    first = True
    with connection:
        while not stop.is_set():
            try:
                connection.settimeout(0.2)
                data = connection.recv(65_536)
                if first:
                    world.said.append((_plain(name[0]), name[1], data))
                    first = False
                if not data:
                    return
                connection.settimeout(30)
                connection.sendall(data)
            except TimeoutError:
                continue
            except OSError:
                return


def _named(world: World, data: bytes) -> bytes:
    """A name server's answer, aliases followed as a recursive one would."""
    query = dns.message.from_wire(data)
    question = query.question[0]
    name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
    world.asked.append((name, kind))
    response = dns.message.make_response(query)
    response.flags |= dns.flags.RA
    while target := world.names.get((name, "CNAME")):
        response.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "CNAME", f"{target[0]}."))
        name = target[0]
    texts = world.names.get((name, kind))
    if texts:
        response.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", kind, *texts))
    elif not any(known == name for known, _ in world.names):
        response.set_rcode(dns.rcode.NXDOMAIN)
    return response.to_wire()


def _answer(
    answering: socket.socket, answer: Callable[[bytes], bytes], stop: threading.Event
) -> None:
    with answering:
        while not stop.is_set():
            try:
                data, ancillary, _, sender = answering.recvmsg(65_536, 256)
                answering.sendmsg([answer(data)], ancillary, 0, sender)
            except TimeoutError:
                continue
            except OSError:
                continue


def _record(world: World, wire: socket.socket, stop: threading.Event) -> None:
    with wire:
        while not stop.is_set():
            try:
                data, address = wire.recvfrom(65_536)
            except TimeoutError:
                continue
            if address[2] != socket.PACKET_OUTGOING:
                packet = _parsed(data, address[1])
                if packet is not None:
                    world.packets.append(packet)


def _parsed(data: bytes, kind: int) -> Packet | None:
    if kind == 0x0800 and len(data) >= 20:
        start, protocol = (data[0] & 15) * 4, data[9]
        source, target = data[12:16], data[16:20]
    elif kind == 0x86DD and len(data) >= 40:
        start, protocol = 40, data[6]
        source, target = data[8:24], data[24:40]
    else:
        return None
    port = 0
    if protocol in (6, 17) and len(data) >= start + 4:
        (port,) = struct.unpack_from("!H", data, start + 2)
    return Packet(
        str(ip_address(source)), str(ip_address(target)), protocol, port, time.monotonic(),
        data[start:],
    )  # fmt: skip


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:")


def tcp(target: str, port: int, data: bytes = b"hello", timeout: float = 10) -> bytes:
    """What comes back over TCP. Raises OSError, TimeoutError."""
    with socket.create_connection((target, port), timeout) as connection:
        connection.sendall(data)
        return connection.recv(65_536)


def udp(target: str, port: int, data: bytes = b"hello", timeout: float = 10) -> bytes:
    """What comes back by UDP. Raises OSError, TimeoutError."""
    with _udp_to(target, port) as sender:
        sender.settimeout(timeout)
        sender.send(data)
        return sender.recv(65_536)


def reaches(
    work: Callable[..., bytes], target: str, port: int, data: bytes = b"hello", timeout: float = 0.3
) -> bool:
    """Whether anything came back soon. For what must come back, `work` itself waits longer."""
    try:
        return bool(work(target, port, data, timeout))
    except OSError:
        return False


def knock(target: str, port: int, data: bytes = b"hello") -> None:
    """Ask for a connection and send a datagram; wait for no answer."""
    datagram(target, port, data)
    call(target, port)


def datagram(target: str, port: int, data: bytes = b"hello") -> None:
    with suppress(OSError), _udp_to(target, port) as sender:
        sender.send(data)


def call(target: str, port: int) -> None:
    """The first segment of a TCP connection, and no more."""
    with socket.socket(_family(target), socket.SOCK_STREAM) as caller:
        caller.setblocking(False)
        caller.connect_ex((target, port))


def _udp_to(target: str, port: int) -> socket.socket:
    sender = socket.socket(_family(target), socket.SOCK_DGRAM)
    try:
        sender.connect((target, port))
    except OSError:
        sender.close()
        raise
    return sender


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
