"""Addresses that webhooks go to: no spelling of a private one is public."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.gateway.addresses import is_public

v4 = st.ip_addresses(v=4)
PRIVATE = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/29", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
    )
]  # fmt: skip


def hidden(network: ipaddress.IPv4Network) -> st.SearchStrategy[ipaddress.IPv4Address]:
    return st.ip_addresses(network=network)


private = st.one_of(*map(hidden, PRIVATE))


def spellings(address: ipaddress.IPv4Address) -> list[str]:
    """Every form in which IPv6 carries an IPv4 address, and the address itself."""
    high, low = int(address) >> 16, int(address) & 0xFFFF
    tail = f"{high:x}:{low:x}"
    return [
        str(address), f"::{tail}", f"::ffff:{tail}", f"::ffff:0:{tail}", f"64:ff9b::{tail}",
        f"64:ff9b:1::{tail}", f"2002:{tail}::1", f"2001:0:{tail}::1",
    ]  # fmt: skip


@given(private)
def test_no_spelling_of_a_private_address_is_public(address: ipaddress.IPv4Address) -> None:
    assert [text for text in spellings(address) if is_public(text)] == []


@given(v4.filter(lambda address: address.is_global and not address.is_multicast))
def test_a_public_address_is_public_also_where_it_is_mapped(
    address: ipaddress.IPv4Address,
) -> None:
    plain, _, mapped, _, translated, *_ = spellings(address)
    assert is_public(plain) and is_public(mapped) and is_public(translated)


@pytest.mark.parametrize(
    "text",
    ["::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "ff0e::1",
     "2001:db8::1", "100::1", "5f00::1", "2001::1", "2002:7f00:1::"],
)  # fmt: skip
def test_local_reserved_and_tunnelled_ipv6_is_not(text: str) -> None:
    assert not is_public(text)


@pytest.mark.parametrize("text", ["8.8.8.8", "2606:4700::1111", "2a00:1450:4001::1"])
def test_what_the_world_reaches_is(text: str) -> None:
    assert is_public(text)


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "0x7f000001", "127.1", "[::1]"])
def test_a_name_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        is_public(text)
