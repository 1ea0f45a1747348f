"""What policies let through, and nothing else, by packets that arrive."""

import time
from collections.abc import Iterator

import pytest

from sandboxd.drivers.network.egress import EgressNetwork
from sandboxd.model.egress import EgressRule
from tests.network.driven import ANY_UDP, ANYWHERE, network, policy, sandbox
from tests.network.world import (
    OTHER4,
    OTHER6,
    PUBLIC4,
    PUBLIC6,
    World,
    datagram,
    knock,
    tcp,
    udp,
)

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", params=["nftables", "iptables"])
def net(world: World, request: pytest.FixtureRequest) -> Iterator[EgressNetwork]:
    with network(firewall=request.param) as made:
        yield made


@pytest.mark.parametrize(("named", "other"), [(PUBLIC4, OTHER4), (PUBLIC6, OTHER6)])
def test_only_what_a_rule_names_is_reached(
    world: World, net: EgressNetwork, named: str, other: str
) -> None:
    rules = (
        EgressRule(cidr=named, ports=[8080]),
        EgressRule(cidr=named, ports=[4000], protocol="udp"),
    )
    with sandbox(net, policy(*rules)) as slot:
        world.packets.clear()
        assert world.inside(slot.fd, lambda: tcp(named, 8080)) == b"hello"
        assert world.inside(slot.fd, lambda: udp(named, 4000)) == b"hello"
        for target, port in ((named, 80), (other, 8080), (other, 4000)):
            world.inside(slot.fd, lambda t=target, p=port: knock(t, p))
            assert not world.arrived(target, port)


@pytest.mark.parametrize("target", [PUBLIC4, PUBLIC6])
def test_a_slot_without_policy_sends_nothing(world: World, net: EgressNetwork, target: str) -> None:
    with sandbox(net, None) as slot:
        world.packets.clear()
        world.inside(slot.fd, lambda: knock(target, 80))
        assert not world.arrived(target)


@pytest.mark.parametrize("target", [PUBLIC4, PUBLIC6])
def test_deny_wins_over_allow(world: World, net: EgressNetwork, target: str) -> None:
    with sandbox(
        net, policy(*ANYWHERE, deny=[EgressRule(cidr=target, ports=["8000-8079"])])
    ) as slot:
        world.packets.clear()
        assert world.inside(slot.fd, lambda: tcp(target, 8080))
        world.inside(slot.fd, lambda: knock(target, 8000))
        assert not world.arrived(target, 8000)


@pytest.mark.parametrize("target", [PUBLIC4, PUBLIC6])
def test_mail_chat_and_dns_need_to_be_named(world: World, net: EgressNetwork, target: str) -> None:
    with sandbox(net, policy(*ANYWHERE)) as slot:
        world.packets.clear()
        assert world.inside(slot.fd, lambda: tcp(target, 22))
        for port in (25, 53, 853, 6667):
            world.inside(slot.fd, lambda p=port: knock(target, p))
            assert not world.arrived(target, port), port
    with sandbox(net, policy(*ANYWHERE, EgressRule(cidr=target, ports=[25]))) as slot:
        assert world.inside(slot.fd, lambda: tcp(target, 25))
        world.inside(slot.fd, lambda: knock(target, 6667))
        assert not world.arrived(target, 6667)


@pytest.mark.parametrize(("named", "other"), [(PUBLIC4, OTHER4), (PUBLIC6, OTHER6)])
def test_fragments_are_judged_as_the_whole_that_they_are(
    world: World, net: EgressNetwork, named: str, other: str
) -> None:
    """The ports are in the first fragment only; none of the others may pass by itself."""
    large = bytes(5_000)
    with sandbox(net, policy(EgressRule(cidr=named, ports=[4000], protocol="udp"))) as slot:
        world.packets.clear()
        assert world.inside(slot.fd, lambda: udp(named, 4000, large)) == large
        for target, port in ((named, 4001), (other, 4000), ("10.1.2.3", 4000), ("fd99::9", 4000)):
            before = world.arrived(target)
            world.inside(slot.fd, lambda t=target, p=port: knock(t, p, large))
            assert world.arrived(target) == before


@pytest.mark.parametrize("target", [PUBLIC4, PUBLIC6])
def test_a_seconds_worth_of_connections_may_come_at_once(
    world: World, net: EgressNetwork, target: str
) -> None:
    with sandbox(net, policy(*ANY_UDP, connection_rate=20)) as slot:
        world.packets.clear()
        begun = time.monotonic()
        world.inside(slot.fd, lambda: [datagram(target, 4000) for _ in range(40)])
        meanwhile = 20 * (time.monotonic() - begun) + 1
        assert 20 <= world.arrived(target, 4000) <= 20 + meanwhile
