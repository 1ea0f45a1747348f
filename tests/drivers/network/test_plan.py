"""Addresses, the floor, policies and groups: what is decided before the kernel is asked."""

import ipaddress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.drivers.network.addresses import GROUPS, Plan
from sandboxd.drivers.network.floor import FLOOR4, FLOOR6, floor
from sandboxd.drivers.network.groups import Groups
from sandboxd.drivers.network.rules import Mark, policy_chains
from sandboxd.errors import Overload
from sandboxd.model.egress import EgressPolicy, EgressRule
from sandboxd.settings import SettingsError

PLAN = Plan("some-instance", "10.213.0.0/16", "fd5d:b0c5:ab1e::/64", 32_768)


@given(st.integers(0, 32_767), st.integers(0, 32_767))
def test_slots_share_nothing_and_are_found_by_their_addresses(one: int, two: int) -> None:
    first, second = PLAN.slot(one), PLAN.slot(two)
    assert PLAN.index_of(first.ipv4) == PLAN.index_of(first.ipv6) == one
    assert len(first.device) <= 15
    for field in ("device", "mac", "ipv4", "ipv6"):
        assert (getattr(first, field) == getattr(second, field)) == (one == two)
    assert first.ipv4 != PLAN.router4 and first.ipv6 != PLAN.router6


def test_instances_do_not_share_names_or_groups() -> None:
    plans = [Plan(f"i{n}", "10.0.0.0/16", "fd00::/64", 10) for n in range(200)]
    assert len({plan.prefix for plan in plans}) == len({plan.table for plan in plans}) == 200
    bases = {plan.group_base for plan in plans}
    assert len(bases) > 195
    assert all(base % GROUPS == 0 and base < 1 << 31 for base in bases)


@pytest.mark.parametrize(
    ("ipv4", "ipv6"),
    [("10.0.0.0/30", "fd00::/64"), ("10.0.0.0/16", "fd00::/126"), ("10.0.0.1/16", "fd00::/64"),
     ("x", "fd00::/64")],
)  # fmt: skip
def test_ranges_that_do_not_fit_are_refused(ipv4: str, ipv6: str) -> None:
    with pytest.raises(SettingsError):
        Plan("i", ipv4, ipv6, 100)


@given(st.ip_addresses())
def test_opened_ranges_leave_the_rest_of_the_floor(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    opened = ("10.20.0.0/16", "fd12::/32")
    whole, open_floor = floor((), ()), floor(opened, ())
    within = any(
        address.version == net.version and address in net
        for net in map(ipaddress.ip_network, opened)
    )
    assert open_floor.holds(address) == (whole.holds(address) and not within)
    nets = FLOOR4 if address.version == 4 else FLOOR6
    assert whole.holds(address) == any(address in net for net in nets)


def test_own_addresses_stay_in_the_floor_whatever_is_opened() -> None:
    own = ipaddress.IPv4Network("10.213.0.0/16")
    assert floor(("10.0.0.0/8",), (own,)).holds(own[77])


@pytest.mark.parametrize(
    "text", ["8.8.8.0/24", "127.0.0.0/8", "169.254.169.254", "0.0.0.0/0", "::/0", "fe80::/10", "x"]
)
def test_only_private_ranges_can_be_opened(text: str) -> None:
    with pytest.raises(SettingsError):
        floor((text,), ())


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"cidr": "1.2.3.4", "domain": "example.org"},
        {"cidr": "1.2.3.4/8"},
        {"cidr": "0x7f.1"},
        {"cidr": "010.0.0.1"},
        {"domain": "Example.org"},
        {"domain": "example.org."},
        {"domain": "*"},
        {"domain": "*.org*"},
        {"domain": "a..example.org"},
        {"domain": "org"},
        {"domain": "1.2.3.4"},
        {"domain": "bücher.example"},
        {"domain": "example.org", "protocol": "udp"},
        {"cidr": "1.2.3.4", "ports": [0]},
        {"cidr": "1.2.3.4", "ports": ["9-8"]},
        {"cidr": "1.2.3.4", "ports": ["1-70000"]},
        {"cidr": "1.2.3.4", "opaque": True},
    ],
)
def test_rules_that_mean_nothing_are_refused(rule: dict[str, object]) -> None:
    with pytest.raises((msgspec.ValidationError, ValueError)):
        msgspec.convert(rule, EgressRule)


def test_equal_policies_share_a_group_and_the_last_use_ends_it() -> None:
    groups = Groups()
    policy = EgressPolicy(name="a", allow=[EgressRule(cidr="1.2.3.4")])
    same = EgressPolicy(name="b", title="other words", allow=[EgressRule(cidr="1.2.3.4")])
    group, chains = groups.hold(policy)
    assert chains is not None
    assert groups.hold(same) == (group, None)
    assert not groups.release(group)
    assert groups.release(group)
    other, again = groups.hold(policy)
    assert other != group and again is not None


def test_groups_run_out_as_overload() -> None:
    groups = Groups()
    for number in range(1, GROUPS):
        groups.hold(EgressPolicy(name="a", connections=number))
    with pytest.raises(Overload):
        groups.hold(EgressPolicy(name="a", connections=GROUPS + 1))


def test_no_two_writings_have_a_mark_in_common() -> None:
    groups, seen = Groups(), set()
    for _ in range(50):
        group, chains = groups.hold(EgressPolicy(name="a", allow=[EgressRule(cidr="1.2.3.4")]))
        assert chains is not None
        marks = {rule.verdict for rule in chains.policy if isinstance(rule.verdict, Mark)}
        assert len(marks) == 1 and not marks & seen
        seen |= marks
        groups.release(group)


def test_a_named_port_stays_open_beside_a_wide_rule() -> None:
    wide, mail = EgressRule(cidr="0.0.0.0/0"), EgressRule(cidr="192.0.2.1", ports=[25])
    chains = policy_chains(EgressPolicy(name="a", allow=[wide, mail]), 1)
    names = [(rule.name, rule.match.ports) for rule in chains.policy]
    assert names.index(("allow", ((25, 25),))) < [name for name, _ in names].index("closed")
