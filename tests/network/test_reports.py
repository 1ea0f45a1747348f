"""What is told of the packets that rules stopped or let out: the same by either firewall."""

import ipaddress
import re
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from sandboxd.drivers.network import nflog
from sandboxd.drivers.network.egress import EgressNetwork
from sandboxd.model.egress import EgressRule
from tests.network.driven import ANY_UDP, ANYWHERE, network, policy, sandbox
from tests.network.world import OTHER4, OTHER6, PUBLIC4, PUBLIC6, World, call, datagram
from tests.patience import PATIENCE

pytestmark = pytest.mark.root

Seen = set[tuple[str, str, str, int]]


def told(net: EgressNetwork, wanted: Seen) -> Seen:
    """What has been told by the time that all of that has, or that it has become late."""
    found: Seen = set()
    deadline = time.monotonic() + 5 * PATIENCE
    while not wanted <= found and time.monotonic() < deadline:
        with suppress(BlockingIOError):
            for report in nflog.reports(net.reports.recv(65_536)):
                address = ipaddress.ip_address(report.source)
                assert net.plan.index_of(address) is not None, report
                found.add((report.prefix, report.protocol, report.target, report.port))
        time.sleep(0.005)
    return found


@pytest.mark.parametrize("firewall", ["nftables", "iptables"])
def test_each_verdict_is_told_with_its_rule(world: World, firewall: str) -> None:
    asked = policy(*ANYWHERE, *ANY_UDP, deny=[EgressRule(cidr=OTHER4), EgressRule(cidr=OTHER6)])
    narrow = policy(EgressRule(cidr=PUBLIC4), EgressRule(cidr=PUBLIC6))
    with network(firewall=firewall) as net:
        with sandbox(net, asked) as slot:

            def open_policy() -> None:
                for target in (PUBLIC4, PUBLIC6, OTHER4, OTHER6, "10.1.2.3", "fd99::9"):
                    call(target, 8080)
                for target in (PUBLIC4, PUBLIC6):
                    call(target, 25)
                    datagram(target, 4000)
                for target in (str(net.plan.router4), str(net.plan.router6)):
                    call(target, 6379)

            world.inside(slot.fd, open_policy)
            wanted = {
                (verdict, protocol, target, port)
                for verdict, protocol, targets, port in (
                    ("allowed:allow", "tcp", (PUBLIC4, PUBLIC6), 8080),
                    ("allowed:allow", "udp", (PUBLIC4, PUBLIC6), 4000),
                    ("refused:deny", "tcp", (OTHER4, OTHER6), 8080),
                    ("refused:closed", "tcp", (PUBLIC4, PUBLIC6), 25),
                    ("refused:floor", "tcp", ("10.1.2.3", "fd99::9"), 8080),
                    (
                        "refused:node", "tcp",
                        (str(net.plan.router4), str(net.plan.router6)), 6379,
                    ),
                )
                for target in targets
            }  # fmt: skip
            assert told(net, wanted) == wanted
        with sandbox(net, narrow) as slot:
            world.inside(slot.fd, lambda: [call(target, 8080) for target in (OTHER4, OTHER6)])
            wanted = {("refused:default", "tcp", target, 8080) for target in (OTHER4, OTHER6)}
            assert told(net, wanted) == wanted


@pytest.mark.parametrize("firewall", ["nftables", "iptables"])
@pytest.mark.parametrize("cap", ["new", "connections"])
def test_what_is_beyond_a_cap_is_told(world: World, firewall: str, cap: str) -> None:
    few = {"new": {"connection_rate": 3}, "connections": {"connections": 3}}[cap]
    with network(firewall=firewall) as net, sandbox(net, policy(*ANY_UDP, **few)) as slot:

        def many() -> None:
            for _ in range(12):
                for target in (PUBLIC4, PUBLIC6):
                    datagram(target, 4000)

        world.inside(slot.fd, many)
        wanted = {
            (verdict, "udp", target, 4000)
            for verdict in ("allowed:allow", f"refused:{cap}")
            for target in (PUBLIC4, PUBLIC6)
        }
        assert told(net, wanted) == wanted
        assert net.dropped()[cap] >= 12


@pytest.mark.parametrize("firewall", ["nftables", "iptables"])
def test_a_flood_is_told_in_part_and_its_neighbour_in_full(world: World, firewall: str) -> None:
    narrow = policy(EgressRule(cidr=PUBLIC4), connection_rate=100_000)
    with (
        network(firewall=firewall) as net,
        sandbox(net, narrow) as bad,
        sandbox(net, narrow) as good,
    ):

        def flood(target: str, ports: range) -> Callable[[], None]:
            return lambda: [datagram(target, port) for port in ports] and None

        world.inside(bad.fd, flood(OTHER4, range(10_000, 11_000)))
        world.inside(good.fd, flood(PUBLIC4, range(4_000, 4_020)))
        wanted = {("refused:default", "udp", PUBLIC4, port) for port in range(4_000, 4_020)}
        found = told(net, wanted)
        assert wanted <= found
        assert 20 < len(found - wanted) < 200


@pytest.mark.parametrize("firewall", ["nftables", "iptables"])
def test_what_a_sandbox_sends_as_somebody_else_fills_no_count(world: World, firewall: str) -> None:
    """A socket may give any source of IPv6 (IP_FREEBIND): caps that count by it would be worn out for
    all, and a report would speak of another."""
    with network(firewall=firewall) as net, sandbox(net, policy(*ANY_UDP)) as slot:
        neighbour = net.plan.slot(7).ipv6

        def pose() -> None:
            for source in (str(neighbour), *(f"2600:db8:1::{n:x}" for n in range(1, 40))):
                with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as posing:
                    posing.setsockopt(socket.IPPROTO_IP, 15, 1)
                    posing.bind((source, 4001))
                    posing.sendto(b"posing", (PUBLIC6, 4000))
            datagram(PUBLIC6, 4000)

        world.packets.clear()
        world.inside(slot.fd, pose)
        world.settle()
        came = {packet.source for packet in world.packets if packet.port == 4000}
        assert came == {"2600:1::2"}
        assert told(net, {("allowed:allow", "udp", PUBLIC6, 4000)}) == {
            ("allowed:allow", "udp", PUBLIC6, 4000)
        }
        assert net.dropped()["spoofed"] >= 40
        assert _counted(net) == {str(slot.addresses.ipv6)}


def _counted(net: EgressNetwork) -> set[str]:
    """The sources that a cap has heard of."""
    if net.firewall == "nftables":
        listed = _output("nft", "list", "set", "inet", net.plan.table, "packets6")
        return set(re.findall(r"[0-9a-f:]+(?= limit rate)", listed))
    hash_tables = Path("/proc/thread-self/net/ip6t_hashlimit")
    return {
        str(ipaddress.ip_address(line.split()[1].split("->")[0].rpartition(":")[0]))
        for table in hash_tables.iterdir()
        for line in table.read_text().splitlines()
    }


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
