"""Who may be a peer in the tunnel, and where; without a kernel."""

import ipaddress
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.drivers.network import overlay
from sandboxd.drivers.network.wireguard import (
    MTU,
    KeyPair,
    address_of,
    admitted,
    changes,
)
from sandboxd.model.overlay import Peer

keys = st.binary(min_size=32, max_size=32).map(lambda raw: b64encode(raw).decode())
tellers = st.builds(
    Peer,
    underlay=st.sampled_from(["192.0.2.1", "2001:db8::1", "nowhere", ""]),
    ipv4=st.just("10.61.0.0/24"),
    ipv6=st.just("fd61::/112"),
    key=st.one_of(
        st.sampled_from([b64encode(bytes([n]) * 32).decode() for n in range(3)]), st.text()
    ),
    port=st.integers(-1, 70_000),
)


def test_a_node_has_a_key_that_no_other_start_of_it_had_and_shows_half_of_it() -> None:
    one, other = KeyPair.new(), KeyPair.new()
    assert len({one.public, one.private, other.public, other.private}) == 4
    assert one.private not in repr(one) and one.public in repr(one)


@given(keys, keys)
def test_an_address_is_of_one_key_and_no_sandbox_may_go_there(one: str, other: str) -> None:
    first, second = ipaddress.ip_address(address_of(one)), ipaddress.ip_address(address_of(other))
    assert (first == second) == (one == other)
    assert first in ipaddress.ip_network("fc00::/7")


@pytest.mark.parametrize(
    "text",
    ["", "AAAA", "A" * 44, b64encode(bytes(31)).decode(), f"{b64encode(bytes(32)).decode()}\n"],
)
def test_what_is_no_key_has_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        address_of(text)


@given(st.lists(tellers, max_size=6))
def test_peers_have_an_endpoint_and_a_key_of_their_own(told: list[Peer]) -> None:
    own = b64encode(bytes(32)).decode()
    found = admitted(told, own)
    assert [peer for peer in told if peer in found][:1] == found[:1]
    assert len({peer.key for peer in found} | {own}) == len(found) + 1
    for peer in found:
        assert peer.port in range(1, 65_536)
        assert ipaddress.ip_address(peer.underlay) and address_of(peer.key)


@given(st.sets(tellers), st.sets(tellers))
def test_a_step_leads_from_the_peers_that_are_to_those_that_shall_be(
    have: set[Peer], wanted: set[Peer]
) -> None:
    gone, new = changes(have, wanted)
    assert (have - gone) | new == wanted
    assert gone <= have and not new & have


def test_a_sandboxes_packet_fits_into_the_underlays() -> None:
    # Outer IPv6, UDP, WireGuard's head and tag; then IPv6, UDP, vxlan and Ethernet.
    assert MTU + 40 + 8 + 32 <= 1_500
    assert overlay.TUNNELLED_MTU + 40 + 8 + 8 + 14 <= MTU
    clear = Peer(underlay="192.0.2.1", ipv4="10.61.0.0/24", ipv6="fd61::/112")
    assert overlay.mtu(clear) == overlay.MTU
