"""Names, addresses and numbers of one instance's network, all from its name and a slot's index. Pure."""

import hashlib
import ipaddress
from typing import overload

from msgspec import Struct

from sandboxd.settings import SettingsError

GROUPS = 4_096
"""Link groups of an instance: one for slots without a policy, one for each policy in use."""
QUARANTINE = 0
"""Offset of the group whose slots may do nothing."""
_ROUTER = 1
_FIRST = 16
"""Offset of slot 0 in both ranges; below it are the node's own addresses."""


N4 = ipaddress.IPv4Network
N6 = ipaddress.IPv6Network


@overload
def router_of(net: N4) -> ipaddress.IPv4Address: ...
@overload
def router_of(net: N6) -> ipaddress.IPv6Address: ...
def router_of(net: N4 | N6) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The node's own address in a range of its sandboxes."""
    return net[_ROUTER]


class Addresses(Struct, frozen=True):
    """What makes one slot. `device` is the end that the node holds."""

    index: int
    device: str
    mac: str
    ipv4: ipaddress.IPv4Address
    ipv6: ipaddress.IPv6Address
    texts: tuple[str, str]
    """Both, as text."""


class Plan:
    def __init__(self, instance: str, ipv4: str, ipv6: str, slots: int) -> None:
        """Raises SettingsError if the ranges do not hold that many slots."""
        digest = hashlib.blake2s(instance.encode(), digest_size=5).digest()
        self.prefix = f"sd{digest[:4].hex()}"
        """Of every device; 10 of the 15 characters that one may have."""
        self.table = f"sandboxd_{instance.replace('-', '_')}"
        self.group_base = 0x5000_0000 | (int.from_bytes(digest[:2]) << 12)
        self.reports = int.from_bytes(digest[2:4]) | 1
        """NFLOG group of what the firewall reports."""
        self.slots = slots
        try:
            self.ipv4, self.ipv6 = ipaddress.IPv4Network(ipv4), ipaddress.IPv6Network(ipv6)
        except ValueError as error:
            raise SettingsError(f"network.ipv4, network.ipv6: {error}") from error
        for name, net in (("ipv4", self.ipv4), ("ipv6", self.ipv6)):
            if net.num_addresses < slots + 2 * _FIRST:
                raise SettingsError(f"network.{name}: {net} is too small for {slots} slots")

    @property
    def router4(self) -> ipaddress.IPv4Address:
        """Where sandboxes find the resolver, and what their packets go through."""
        return router_of(self.ipv4)

    @property
    def router6(self) -> ipaddress.IPv6Address:
        return router_of(self.ipv6)

    @property
    def overlay_device(self) -> str:
        return f"{self.prefix}-x"

    @property
    def tunnel_device(self) -> str:
        return f"{self.prefix}-w"

    @property
    def router_device(self) -> str:
        return f"{self.prefix}-r"

    def slot(self, index: int) -> Addresses:
        """Of slot `index`, from 0 to below `slots`."""
        if not 0 <= index < self.slots:
            raise IndexError(index)
        ipv4, ipv6 = self.ipv4[_FIRST + index], self.ipv6[_FIRST + index]
        return Addresses(
            index=index,
            device=f"{self.prefix}{index:x}",
            mac=f"02:5d:{index >> 24 & 255:02x}:{index >> 16 & 255:02x}:"
            f"{index >> 8 & 255:02x}:{index & 255:02x}",
            ipv4=ipv4,
            ipv6=ipv6,
            texts=(str(ipv4), str(ipv6)),
        )

    def index_of(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int | None:
        """The slot that has this address, or None."""
        net = self.ipv4 if address.version == 4 else self.ipv6
        if address not in net:
            return None
        index = int(address) - int(net.network_address) - _FIRST
        return index if 0 <= index < self.slots else None

    def group(self, offset: int) -> int:
        if not 0 <= offset < GROUPS:
            raise IndexError(offset)
        return self.group_base + offset
