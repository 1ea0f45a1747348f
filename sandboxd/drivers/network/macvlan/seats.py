"""Addresses of sandboxes on an interface's network, handed out one by one. Pure."""

import ipaddress
from collections import deque
from itertools import islice

from msgspec import Struct

from sandboxd.errors import Overload
from sandboxd.settings import MacvlanSettings, SettingsError

_MOST = 4_096
"""Sandboxes on one interface at once."""

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class Seat(Struct, frozen=True):
    mac: str
    """Follows from the address, so that nobody remembers another one for it."""
    addresses: tuple[Interface, ...]
    """At most one of each family, with the network's length."""
    gateways: tuple[Interface, ...]
    """Of the same families."""

    @property
    def texts(self) -> tuple[str, ...]:
        """What tells it from any other, of other settings too."""
        return tuple(map(str, (*self.addresses, *self.gateways)))


class Seats:
    """Of one interface. An address is free again once it is given back, and comes after all others."""

    def __init__(self, name: str, settings: MacvlanSettings) -> None:
        """Raises SettingsError for ranges that make no sense."""
        self._name = name
        ranges = [
            _family(f"network.macvlan.{name}.{field}", pool, gateway)
            for field, pool, gateway in (
                ("ipv4", settings.ipv4, settings.gateway4),
                ("ipv6", settings.ipv6, settings.gateway6),
            )
            if pool or gateway
        ]
        if not ranges:
            raise SettingsError(f"network.macvlan.{name}: give ipv4 or ipv6, with its gateway")
        gateways = tuple(gateway for _, gateway in ranges)
        self._free = deque(
            Seat(_mac(addresses[0]), addresses, gateways)
            for addresses in zip(*(found for found, _ in ranges), strict=False)
        )

    def take(self) -> Seat:
        """Raises Overload if all are taken."""
        if not self._free:
            raise Overload(f"every address on {self._name} is in use", retry_after=1.0)
        return self._free.popleft()

    def claim(self, texts: tuple[str, ...]) -> Seat:
        """The one with these. Raises LookupError if it is none of these, or taken."""
        for seat in self._free:
            if seat.texts == texts:
                self._free.remove(seat)
                return seat
        raise LookupError(f"{self._name} has no {', '.join(texts)} to give")

    def give_back(self, seat: Seat) -> None:
        self._free.append(seat)


def _family(field: str, pool: str, router: str) -> tuple[list[Interface], Interface]:
    """The addresses of a range, and the gateway of its network. Raises SettingsError."""
    try:
        version = 4 if field.endswith("4") else 6
        net, gateway = ipaddress.ip_network(pool), ipaddress.ip_interface(router)
        within = gateway.network
        if not net.version == within.version == version or not net.subnet_of(within):  # type: ignore[arg-type]
            raise ValueError(f"{pool} is not within the network of {router}")
    except ValueError as error:
        raise SettingsError(f"{field}: {error}") from error
    usable = (
        ipaddress.ip_interface(f"{address}/{within.prefixlen}")
        for address in net
        if address not in (gateway.ip, within.network_address, within.broadcast_address)
        or within.num_addresses <= 2
    )
    found = list(islice(usable, _MOST))
    if not found:
        raise SettingsError(f"{field}: {pool} has no address for a sandbox")
    return found, gateway


def _mac(address: Interface) -> str:
    last = address.ip.packed[-4:]
    return "02:5f:" + ":".join(f"{byte:02x}" for byte in last)
