"""What policies let through, and nothing else, by packets that arrive."""

from collections.abc import Iterator

import pytest

from sandboxd.drivers.network.egress import EgressNetwork
from sandboxd.model.egress import EgressRule
from tests.network.driven import ANYWHERE, network, policy, sandbox
from tests.network.world import (
    OTHER4,
    OTHER6,
    PUBLIC4,
    PUBLIC6,
    World,
    reaches,
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
        for target, port in ((named, 80), (other, 8080)):
            assert not world.inside(slot.fd, lambda t=target, p=port: reaches(tcp, t, p))
            assert not world.arrived(target, port)
        assert not world.inside(slot.fd, lambda: reaches(udp, other, 4000))
        assert not world.arrived(other, 4000)


@pytest.mark.parametrize("target", [PUBLIC4, PUBLIC6])
def test_a_slot_without_policy_sends_nothing(world: World, net: EgressNetwork, target: str) -> None:
    with sandbox(net, None) as slot:
        world.packets.clear()
        assert not world.inside(slot.fd, lambda: reaches(tcp, target, 80))
        assert not world.arrived(target)


@pytest.mark.parametrize("target", [PUBLIC4, PUBLIC6])
def test_deny_wins_over_allow(world: World, net: EgressNetwork, target: str) -> None:
    with sandbox(
        net, policy(*ANYWHERE, deny=[EgressRule(cidr=target, ports=["8000-8079"])])
    ) as slot:
        world.packets.clear()
        assert world.inside(slot.fd, lambda: reaches(tcp, target, 8080))
        assert not world.inside(slot.fd, lambda: reaches(tcp, target, 8000))
        assert not world.arrived(target, 8000)


@pytest.mark.parametrize("target", [PUBLIC4, PUBLIC6])
def test_mail_chat_and_dns_need_to_be_named(world: World, net: EgressNetwork, target: str) -> None:
    with sandbox(net, policy(*ANYWHERE)) as slot:
        world.packets.clear()
        assert world.inside(slot.fd, lambda: reaches(tcp, target, 22))
        for port in (25, 53, 853, 6667):
            assert not world.inside(slot.fd, lambda p=port: reaches(tcp, target, p)), port
            assert not world.arrived(target, port)
    with sandbox(net, policy(*ANYWHERE, EgressRule(cidr=target, ports=[25]))) as slot:
        assert world.inside(slot.fd, lambda: reaches(tcp, target, 25))
        assert not world.inside(slot.fd, lambda: reaches(tcp, target, 6667))


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
            world.inside(slot.fd, lambda t=target, p=port: reaches(udp, t, p, large, 0.1))
            assert world.arrived(target) == before
