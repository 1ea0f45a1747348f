"""What somebody inside would try first: other kinds of sockets, other settings, every port in reach."""

import errno
import json
import selectors
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.network.driven import ANY_UDP, ANYWHERE, network, policy, sandbox
from tests.network.serving import printed, serving
from tests.network.world import PUBLIC4, World
from tests.service.instance import Service

_SOCKETS = r"""
import errno, json, os, socket, struct, subprocess, sys

def made(*kind):
    try:
        socket.socket(*kind).close()
        return "made"
    except OSError as error:
        return errno.errorcode[error.errno]

def told(kind, flags, body):
    # An order to the kernel's routing, and its answer.
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as line:
        line.bind((0, 0))
        line.send(struct.pack("=IHHII", 16 + len(body), kind, 5 | flags, 1, 0) + body)
        size, kind, _, _, _, code = struct.unpack_from("=IHHIIi", line.recv(4096))
        return errno.errorcode.get(-code, code) if kind == 2 else "answered"

def wrote(path, text):
    try:
        with open(path, "w") as file:
            file.write(text)
        return "written"
    except OSError as error:
        return errno.errorcode[error.errno]

def option(level, name, value):
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
            one.setsockopt(level, name, value)
        return "set"
    except OSError as error:
        return errno.errorcode[error.errno]

index = socket.if_nametoindex("eth0")
link = struct.pack("=BBHiII", 0, 0, 0, index, 0, 1)  # down
print(json.dumps({
    "raw": [made(family, socket.SOCK_RAW, protocol) for family, protocol in (
        (socket.AF_INET, 255), (socket.AF_INET, 1), (socket.AF_INET6, 58), (socket.AF_INET6, 255))],
    "packet": [made(socket.AF_PACKET, kind, 0x300) for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM)],
    # usersock, firewall, nflog, xfrm, audit, connector, netfilter, generic
    "netlink": [made(socket.AF_NETLINK, socket.SOCK_RAW, number)
                for number in (2, 3, 5, 6, 9, 11, 12, 16)],
    "others": [made(family, kind, 0) for family, kind in (
        (40, 1), (38, 5), (33, 2), (44, 3), (29, 3), (31, 1), (17, 2), (30, 2))],
    "sctp, dccp, udplite, mptcp, icmp": [made(socket.AF_INET, kind, number) for kind, number in (
        (1, 132), (6, 33), (2, 136), (1, 262), (2, 1))],
    "link down": told(16, 0, link),
    "address": told(20, 0x600, struct.pack("=BBBBI", 2, 32, 0, 0, index) + struct.pack(
        "=HH4s", 8, 2, socket.inet_aton("203.0.113.9"))),
    "route": told(24, 0x600, struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 4, 0, 1, 0) + struct.pack(
        "=HHI", 8, 4, index)),
    "device": told(16, 0x600, struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + struct.pack(
        "=HH8sHHHH8s", 12, 3, b"dummy7\0\0", 16, 18, 12, 1, b"dummy\0\0\0")),
    "settings": [wrote(f"/proc/sys/net/{name}", "1") for name in (
        "ipv4/ip_forward", "ipv4/conf/eth0/accept_local", "ipv6/conf/eth0/forwarding")],
    # transparent, a mark, a forced buffer, the firewall's rules
    "options": [option(0, 19, 1), option(1, 36, 5),
                option(1, 50, 1), option(0, 64, b"\0" * 40)],
}))
"""


@pytest.fixture(scope="module")
def served(world: World) -> Iterator[Service]:
    with serving({"open": '[[allow]]\ncidr = "0.0.0.0/0"\n'}) as service:
        yield service


@pytest.mark.root
@pytest.mark.service
def test_only_plain_sockets_are_made_and_nothing_of_the_network_is_changed(
    served: Service,
) -> None:
    found = printed(served, _SOCKETS, network="open")
    refused = {errno.errorcode[number] for number in (
        errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT,
        errno.ENOSYS, errno.EROFS, errno.ENOENT, errno.ENOPROTOOPT, errno.EINVAL, errno.EOPNOTSUPP,
    )}  # fmt: skip
    for name, answers in found.items():
        for answer in answers if isinstance(answers, list) else [answers]:
            assert answer in refused, (name, json.dumps(answers))


def _open(targets: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those that accept a TCP connection, many asked at once."""
    found, waiting = set(), selectors.DefaultSelector()
    with ExitStack() as made:
        for target in targets:
            family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
            line = made.enter_context(socket.socket(family, socket.SOCK_STREAM))
            line.setblocking(False)
            with suppress(BlockingIOError):
                line.connect(target)
            waiting.register(line, selectors.EVENT_WRITE, target)
        while waiting.get_map() and (ready := waiting.select(0.5)):
            for key, _ in ready:
                if not key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):  # type: ignore[union-attr]
                    found.add(key.data)
                waiting.unregister(key.fileobj)
    return found


@pytest.mark.root
@pytest.mark.parametrize("firewall", ["nftables", "iptables"])
def test_a_scan_of_the_node_and_its_neighbours_finds_nothing(world: World, firewall: str) -> None:
    """While somebody listens on every address of both, and the scan does find what a policy opens."""
    wide = policy(
        *ANYWHERE, *ANY_UDP, connections=100_000, connection_rate=1_000_000,
        packet_rate=100_000_000,
    )  # fmt: skip
    with (
        network(firewall=firewall) as net,
        sandbox(net, wide) as slot,
        sandbox(net, wide) as neighbour,
        ExitStack() as listening,
    ):
        ports = [*range(1, 257), 2375, 6379, 7070, 8080, 15_080]
        for port in (22, 80, 6379, 7070):
            for work in (lambda: None, lambda: neighbour.fd):
                where = work()
                server = _listener(port) if where is None else world.inside(
                    where, lambda port=port: _listener(port)
                )  # fmt: skip
                listening.enter_context(server)
        addresses = [
            str(address)
            for address in (
                net.plan.router4, net.plan.router6, neighbour.addresses.ipv4,
                neighbour.addresses.ipv6, "100.64.0.2", "169.254.1.1",
            )
        ]  # fmt: skip
        addresses += _own_addresses()
        for address in addresses:
            found = world.inside(slot.fd, lambda a=address: _open((a, port) for port in ports))
            assert not found, (address, found)
        assert world.inside(slot.fd, lambda: _open([(PUBLIC4, 80), (PUBLIC4, 81)])) == {
            (PUBLIC4, 80)
        }
        # The listeners do listen: their own side finds them.
        assert _open([("127.0.0.1", port) for port in ports]) >= {("127.0.0.1", 6379)}


def _listener(port: int) -> socket.socket:
    return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)


def _own_addresses() -> list[str]:
    """Of `svc` on its way to the world."""
    found = []
    for family, target in ((socket.AF_INET, PUBLIC4), (socket.AF_INET6, "2600:db8::10")):
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            one.connect((target, 9))
            found.append(one.getsockname()[0])
    return found
