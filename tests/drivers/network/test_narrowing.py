"""A part of a policy is within it, whatever is asked for."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.model.egress import CLOSED_TCP, EgressPolicy, EgressRule, narrowed, remaining

CEILING = EgressPolicy(
    name="ceiling",
    allow=[
        EgressRule(cidr="198.51.0.0/16"),
        EgressRule(cidr="203.0.113.0/24", ports=[22, "8000-8100"]),
        EgressRule(cidr="2600::/16", protocol="udp", ports=[4000]),
        EgressRule(domain="*.example.org"),
        EgressRule(domain="data.example.net", ports=[5432], opaque=True),
    ],
    deny=[EgressRule(cidr="198.51.7.0/24")],
    connections=7,
)


@pytest.mark.parametrize(
    "rule",
    [
        {"cidr": "198.51.100.0/24"},
        {"cidr": "198.51.100.1", "ports": [443]},
        {"cidr": "203.0.113.5", "ports": [22, "8010-8020"]},
        {"cidr": "2600:1::/32", "protocol": "udp", "ports": [4000]},
        {"domain": "www.example.org"},
        {"domain": "*.a.example.org", "ports": [443]},
        {"domain": "data.example.net", "ports": [5432], "opaque": True},
        {"domain": "data.example.net", "ports": [5432]},
    ],
)
def test_what_lies_within_is_granted_with_the_rest_of_the_policy(rule: dict[str, object]) -> None:
    asked = EgressRule(**rule)  # type: ignore[arg-type]
    got = narrowed(CEILING, [asked])
    assert got.allow == [asked]
    assert (got.deny, got.connections) == (CEILING.deny, 7)


@pytest.mark.parametrize(
    "rule",
    [
        {"cidr": "198.0.0.0/8"},
        {"cidr": "198.51.100.1", "protocol": "udp", "ports": [53]},
        {"cidr": "198.51.100.1", "ports": [25]},
        {"cidr": "198.51.100.1", "ports": ["1-100"]},
        {"cidr": "203.0.113.5"},
        {"cidr": "203.0.113.5", "ports": ["7999-8001"]},
        {"cidr": "10.0.0.1"},
        {"domain": "example.org"},
        {"domain": "evilexample.org"},
        {"domain": "www.example.org", "ports": [8080]},
        {"domain": "www.example.org", "opaque": True},
        {"domain": "*.example.net"},
        {"domain": "data.example.net"},
    ],
)
def test_what_does_not_is_refused(rule: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        narrowed(CEILING, [EgressRule(**rule)])  # type: ignore[arg-type]


nets = st.builds(
    lambda address, bits: str(ipaddress.ip_network((address, bits), strict=False)),
    st.integers(0xC633_0000, 0xC634_FFFF),
    st.integers(12, 32),
)
spans = st.lists(
    st.one_of(
        st.integers(1, 65_535),
        st.tuples(st.integers(1, 65_535), st.integers(0, 99)).map(
            lambda pair: f"{pair[0]}-{min(65_535, pair[0] + pair[1])}"
        ),
    ),
    max_size=3,
)


@given(nets, spans, st.integers(0xC633_0000, 0xC634_FFFF), st.integers(1, 65_535))
def test_nothing_that_is_granted_was_closed(
    cidr: str, ports: list[int | str], address: int, port: int
) -> None:
    rule = EgressRule(cidr=cidr, ports=ports)
    try:
        narrowed(CEILING, [rule])
    except ValueError:
        return
    target = ipaddress.ip_address(address)
    named = not rule.ports or any(low <= port <= high for low, high in rule.spans())
    closed = any(low <= port <= high for low, high in CLOSED_TCP)
    if target in rule.network() and named and not (closed and not rule.ports):
        assert target in ipaddress.ip_network("198.51.0.0/16") and not closed


@given(st.lists(st.tuples(nets, spans), max_size=6))
def test_of_a_part_that_has_become_too_wide_what_is_still_within_is_left(
    asked: list[tuple[str, list[int | str]]],
) -> None:
    rules = [EgressRule(cidr=cidr, ports=ports) for cidr, ports in asked]
    left = remaining(CEILING, rules)
    assert narrowed(CEILING, left.allow) == left
    for rule in rules:
        if rule not in left.allow:
            with pytest.raises(ValueError):
                narrowed(CEILING, [rule])
