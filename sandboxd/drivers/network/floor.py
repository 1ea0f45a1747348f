"""What no policy can open: addresses that lead to the node, its neighbours, or nowhere. Pure.

Sources: the IANA special-purpose registries of IPv4 and IPv6 addresses (RFC 6890 and what updated it),
and the metadata addresses of clouds that lie outside of them. A form of IPv6 that carries an IPv4
address is closed as a whole: whoever may reach that address can use IPv4.
"""

import ipaddress
from collections.abc import Iterable
from typing import TypeAlias, TypeVar

from msgspec import Struct

from sandboxd.settings import SettingsError

V4: TypeAlias = ipaddress.IPv4Network
V6: TypeAlias = ipaddress.IPv6Network
Net: TypeAlias = V4 | V6
N = TypeVar("N", V4, V6)
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

FLOOR4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",        # this network
            "10.0.0.0/8",       # RFC 1918
            "100.64.0.0/10",    # CGNAT; also Alibaba's metadata, 100.100.100.200
            "127.0.0.0/8",      # loopback
            "168.63.129.16/32",  # Azure's host agent
            "169.254.0.0/16",   # link-local; the metadata address of most clouds
            "172.16.0.0/12",    # RFC 1918
            "192.0.0.0/24",     # protocol assignments; Oracle's metadata, 192.0.0.192
            "192.88.99.0/24",   # 6to4 relays
            "192.168.0.0/16",   # RFC 1918
            "198.18.0.0/15",    # benchmarks: what internal test networks use
            "224.0.0.0/4",      # multicast
            "240.0.0.0/4",      # reserved, broadcast
        ),
    )
)  # fmt: skip
FLOOR6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "::/96",            # unspecified, loopback, 4-compatible
            "::ffff:0:0/96",    # 4-mapped
            "::ffff:0:0:0/96",  # 4-translated (SIIT)
            "64:ff9b::/96",     # NAT64
            "64:ff9b:1::/48",   # local-use NAT64
            "100::/64",         # discard
            "100:0:0:1::/64",   # dummy
            "2001::/23",        # Teredo, ORCHID and other protocol assignments
            "2002::/16",        # 6to4
            "3fff::/20",        # documentation
            "5f00::/16",        # segment routing
            "fc00::/7",         # unique local; the metadata address fd00:ec2::254
            "fe80::/10",        # link-local
            "fec0::/10",        # site-local
            "ff00::/8",         # multicast
        ),
    )
)  # fmt: skip


class Floor(Struct, frozen=True):
    nets4: tuple[V4, ...]
    nets6: tuple[V6, ...]

    def holds(self, address: Address) -> bool:
        """Whether the floor has this address."""
        nets: tuple[Net, ...] = self.nets4 if address.version == 4 else self.nets6
        return any(address in net for net in nets)


def floor(opened: Iterable[str], own: Iterable[Net]) -> Floor:
    """The floor without the ranges that the operator opened, and with the instance's own in any case.

    Raises SettingsError for a range that is none, or that is not wholly private (loopback, link-local and
    multicast stay closed).
    """
    nets4: list[V4] = list(FLOOR4)
    nets6: list[V6] = list(FLOOR6)
    for text in opened:
        try:
            net = ipaddress.ip_network(text)
        except ValueError as error:
            raise SettingsError(f"network.private: {error}") from error
        if not any(net.version == wide.version and net.subnet_of(wide) for wide in _OPENABLE):  # type: ignore[arg-type]
            raise SettingsError(f"network.private: {text} is not within a private range")
        if isinstance(net, V4):
            nets4 = _without(nets4, net)
        else:
            nets6 = _without(nets6, net)
    for net in own:
        if isinstance(net, V4):
            nets4.append(net)
        else:
            nets6.append(net)
    return Floor(
        tuple(ipaddress.collapse_addresses(nets4)), tuple(ipaddress.collapse_addresses(nets6))
    )


_OPENABLE: tuple[Net, ...] = tuple(
    map(
        ipaddress.ip_network,
        (
            "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15", "fc00::/7",
        ),
    )
)  # fmt: skip


def _without(nets: list[N], hole: N) -> list[N]:
    left: list[N] = []
    for net in nets:
        left += net.address_exclude(hole) if hole.subnet_of(net) else [net]
    return left
