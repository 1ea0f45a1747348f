"""Sets of the kernel (ipset) that the rules of `iptables` ask: what is open, what has been sent and got.

Each method raises DriverFault.
"""

import ipaddress
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pyroute2 import IPSet
from pyroute2.ipset import PortEntry
from pyroute2.netlink.exceptions import IPSetError, NetlinkError

from sandboxd.drivers.network.addresses import Addresses
from sandboxd.drivers.network.firewall import Opening
from sandboxd.errors import DriverFault

_FAMILIES = {4: 2, 6: 10}
_NAMES = ("opened", "proxied")
_NAMES_MAX = 1 << 20
_STATE_MAX = 65_536


class Sets:
    def __init__(self, prefix: str, named: Callable[[str, int], str]) -> None:
        """Of the calling thread's network namespace. `named` gives the name of a set of one version of
        IP; all begin with `prefix`."""
        self._prefix, self._named = prefix, named
        self._sets = IPSet()

    def close(self) -> None:
        self._sets.close()

    def make(self) -> None:
        """Those that are not there."""
        with _translated("make sets"):
            for version, family in _FAMILIES.items():
                for name in _NAMES:
                    self._sets.create(
                        self._named(name, version), stype="hash:ip,port,ip", family=family,
                        timeout=60, maxelem=_NAMES_MAX, exclusive=False,
                    )  # fmt: skip
                self._sets.create(
                    self._named("bytes", version), stype="hash:ip", family=family, counters=True,
                    maxelem=_STATE_MAX, exclusive=False,
                )  # fmt: skip

    def empty(self, but: Collection[Addresses] = ()) -> None:
        """Of everything but what these slots have sent and got. There must be sets."""
        kept = {str(address) for slot in but for address in (slot.ipv4, slot.ipv6)}
        with _translated("empty sets"):
            for version, family in _FAMILIES.items():
                for name in _NAMES:
                    self._sets.flush(self._named(name, version))
                counted = self._named("bytes", version)
                for address in set(self._counted(counted)) - kept:
                    self._sets.delete(counted, address, exclusive=False, family=family)

    def _counted(self, name: str) -> Iterator[str]:
        for message in self._sets.list(name):
            for entry in message.get_attr("IPSET_ATTR_ADT").get_attrs("IPSET_ATTR_DATA"):
                found = entry.get_attr("IPSET_ATTR_IP_FROM")
                address = found.get_attr("IPSET_ATTR_IPADDR_IPV4")
                yield address or str(ipaddress.ip_address(found.get_attr("IPSET_ATTR_IPADDR_IPV6")))

    def open(self, openings: Iterable[Opening]) -> None:
        with _translated("open"):
            for opening in openings:
                self._sets.add(
                    self._set(opening), _key(opening), etype="ip,port,ip", exclusive=False,
                    family=_FAMILIES[opening.sandbox.version], timeout=opening.ttl,
                )  # fmt: skip

    def forget(self, slot: Addresses, openings: Iterable[Opening]) -> None:
        with _translated("forget"):
            for opening in openings:
                self._sets.delete(
                    self._set(opening), _key(opening), etype="ip,port,ip", exclusive=False,
                    family=_FAMILIES[opening.sandbox.version],
                )  # fmt: skip
            for address in (slot.ipv4, slot.ipv6):
                name, family = self._named("bytes", address.version), _FAMILIES[address.version]
                self._sets.delete(name, str(address), exclusive=False, family=family)

    def _set(self, opening: Opening) -> str:
        return self._named("proxied" if opening.proxied else "opened", opening.address.version)

    def remove(self) -> None:
        """All of them. No rule may ask any."""
        with _translated("remove sets"):
            for message in self._sets.list():
                name = message.get_attr("IPSET_ATTR_SETNAME")
                if name.startswith(self._prefix):
                    self._sets.destroy(name)


def _key(opening: Opening) -> Any:
    port = PortEntry(opening.port, protocol=6 if opening.protocol == "tcp" else 17)
    return (str(opening.sandbox), port, str(opening.address))


@contextmanager
def _translated(operation: str) -> Iterator[None]:
    try:
        yield
    except (IPSetError, NetlinkError, OSError) as error:
        raise DriverFault("network", f"ipset: {operation}", str(error)) from error
