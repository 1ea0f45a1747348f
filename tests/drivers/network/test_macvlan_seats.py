"""Addresses on an interface's network: which there are, and in which order they come."""

import pytest

from sandboxd.drivers.network.macvlan.seats import Seats
from sandboxd.errors import Overload
from sandboxd.settings import MacvlanSettings, SettingsError


def seats(**rest: str) -> Seats:
    return Seats("lan", MacvlanSettings(interface="eth7", **rest))


def test_a_seat_has_an_address_of_each_family_and_the_router_has_none() -> None:
    both = seats(
        ipv4="192.0.2.0/29", gateway4="192.0.2.1/29", ipv6="2001:db8::/125",
        gateway6="2001:db8::1/64",
    )  # fmt: skip
    found = []
    while True:
        try:
            found.append(both.take())
        except Overload:
            break
    assert [str(seat.addresses[0]) for seat in found] == [f"192.0.2.{n}/29" for n in range(2, 7)]
    assert [str(seat.addresses[1]) for seat in found] == [f"2001:db8::{n}/64" for n in range(2, 7)]
    assert found[0].mac == "02:5f:c0:00:02:02"
    assert [str(router) for router in found[0].gateways] == ["192.0.2.1/29", "2001:db8::1/64"]


def test_what_is_given_back_comes_after_all_others() -> None:
    three = seats(ipv4="192.0.2.8/30", gateway4="192.0.2.1/24")
    first = three.take()
    three.give_back(first)
    assert [three.take() for _ in range(4)][-1] == first


def test_one_that_is_in_use_since_before_is_nobody_elses() -> None:
    three = seats(ipv4="192.0.2.8/30", gateway4="192.0.2.1/24")
    router = "192.0.2.1/24"
    claimed = three.claim(("192.0.2.9/24", router))
    for unknown in (("192.0.2.9/24", router), ("192.0.2.10/24", "192.0.2.2/24"), (router,), ()):
        with pytest.raises(LookupError):
            three.claim(unknown)
    assert claimed not in [three.take() for _ in range(3)]


def test_a_range_of_one_is_a_fixed_address() -> None:
    one = seats(ipv6="2001:db8::7/128", gateway6="2001:db8::1/64")
    assert str(one.take().addresses[0]) == "2001:db8::7/64"
    with pytest.raises(Overload, match="lan"):
        one.take()


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"ipv4": "192.0.2.0/28"},
        {"gateway4": "192.0.2.1/24"},
        {"ipv4": "198.51.100.0/28", "gateway4": "192.0.2.1/24"},
        {"ipv4": "2001:db8::/125", "gateway4": "2001:db8::1/64"},
        {"ipv4": "192.0.2.1/32", "gateway4": "192.0.2.1/24"},
        {"ipv4": "192.0.2.9/28", "gateway4": "192.0.2.1/24"},
    ],
)
def test_ranges_that_make_no_sense_name_their_setting(wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"network\.macvlan\.lan"):
        seats(**wrong)
