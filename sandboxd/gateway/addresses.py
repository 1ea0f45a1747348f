"""Which addresses a stranger may have us call: those of the public internet, however they are written."""

import ipaddress

_UNICAST = ipaddress.ip_network("2000::/3")
"""All that is given out of IPv6. What lies outside is local, reserved, or IPv4 in disguise."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(text: str) -> bool:
    """Whether `text`, an IPv4 or IPv6 address, is one of the public internet. Raises ValueError."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(str(ipaddress.IPv4Address(address.packed[-4:])))
        if address.ipv4_mapped is not None:
            return is_public(str(address.ipv4_mapped))
        # 6to4 and Teredo end at an IPv4 address that they name, wherever that is.
        if address not in _UNICAST or address.sixtofour or address.teredo:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved
