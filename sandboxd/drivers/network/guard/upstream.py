"""Asking the world for addresses, on the host's side: what comes back and lies in the floor is not
used."""

import ipaddress
import time
from collections.abc import Sequence

import dns.asyncresolver
import dns.exception
import dns.resolver
from msgspec import Struct

_LIFETIME = 4.0
_TTL_MIN, _TTL_MAX = 5, 300
_ADDRESSES_MAX = 16
_CACHE = 10_000

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Net = ipaddress.IPv4Network | ipaddress.IPv6Network


class Refused(Exception):
    """The answer leads where nobody may go; `address` is the first such."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


class Found(Struct, frozen=True):
    addresses: tuple[Address, ...]
    ttl: int
    """Seconds."""
    exists: bool = True


class Upstream:
    def __init__(self, resolvers: Sequence[str], floor: Sequence[str]) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=not resolvers)
        if resolvers:
            self._resolver.nameservers = list(resolvers)
        self._resolver.cache = dns.resolver.LRUCache(_CACHE)
        self._resolver.lifetime = _LIFETIME
        self._floor = tuple(map(ipaddress.ip_network, floor))

    async def ask(self, name: str, kind: str) -> Found:
        """Addresses of a name, `kind` being A or AAAA; none if it has none.

        One address in the floor spoils the whole answer: who mixes them means to get somebody there.
        Raises Refused for it, and OSError if nobody answers.
        """
        try:
            answer = await self._resolver.resolve(
                f"{name}.", kind, search=False, raise_on_no_answer=False
            )
        except dns.resolver.NXDOMAIN:
            return Found((), _TTL_MIN, exists=False)
        except dns.exception.DNSException as error:
            raise OSError(str(error)) from error
        found = [] if answer.rrset is None else [item.to_text() for item in answer.rrset]
        addresses = tuple(map(ipaddress.ip_address, found[:_ADDRESSES_MAX]))
        for address in addresses:
            if self.in_floor(address):
                raise Refused(str(address))
        ttl = int(answer.expiration - time.time())
        return Found(addresses, max(_TTL_MIN, min(_TTL_MAX, ttl)))

    def in_floor(self, address: Address) -> bool:
        return any(address.version == net.version and address in net for net in self._floor)
