"""A sandbox's place on an interface's network: a device in its namespace, and what stands before it.

For the thread that made it, which is moved into that namespace and back.
"""

import ipaddress
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self, TypeVar

from msgspec import Struct
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

from sandboxd.drivers.network import flows, nflog
from sandboxd.drivers.network.devices import Devices
from sandboxd.drivers.network.firewall import Layout
from sandboxd.drivers.network.libnftables import Nftables
from sandboxd.drivers.network.links import bucket, lead_to_node
from sandboxd.drivers.network.macvlan.seats import Seat
from sandboxd.drivers.network.macvlan.table import DEVICE, REPORTS, table
from sandboxd.drivers.network.namespaces import close, here, inside
from sandboxd.errors import DriverFault
from sandboxd.model.egress import EgressPolicy, Net

T = TypeVar("T")
_NODAD = 0x02
_BEFORE = 512
"""Metric of its routes, which go before those of the device that leads to the node."""
_SWITCHES = {
    # No router speaks to it and no address is made up: what it has is what it is given here.
    "ipv6": {
        "accept_ra": "0",
        "addr_gen_mode": "1",
        "router_solicitations": "0",
        "accept_redirects": "0",
    },
    # It answers for the addresses of this device alone.
    "ipv4": {"arp_ignore": "1", "arp_announce": "2", "accept_redirects": "0"},
}


class KeptPort(Struct, frozen=True, kw_only=True):
    """What the node after this one has to know of one."""

    name: str
    parent: int
    seat: tuple[str, ...]
    marks: int
    led: tuple[str, ...]


class Port:
    def __init__(self, name: str, parent: int, seat: Seat, namespace: int) -> None:
        """`parent` is the interface's index. Called by `made` and `resumed`."""
        self.name, self.seat, self._parent = name, seat, parent
        self._namespace, self._home = os.dup(namespace), here()
        self._held = ExitStack()
        self._held.callback(close, self._namespace, self._home)
        self._marks = 0
        self._led: frozenset[Net] = frozenset()
        """Networks that packets go to by the router."""

    @classmethod
    def made(cls, name: str, parent: int, seat: Seat, namespace: int) -> Self:
        """Puts the device, still down, into the namespace. Raises DriverFault."""
        port = cls(name, parent, seat, namespace)
        try:
            with IPRoute() as link:
                link.link(
                    "add", ifname=DEVICE, kind="macvlan", link=parent, macvlan_mode="private",
                    address=seat.mac, net_ns_fd=port._namespace,
                )  # fmt: skip
            port._inside(port._open)
        except (NetlinkError, OSError, DriverFault) as error:
            with suppress(NetlinkError, OSError):  # it may not be there yet
                port._inside(_remove)
            port.let_go()
            raise _fault(name, error) from error
        return port

    @classmethod
    def resumed(cls, kept: KeptPort, seat: Seat, namespace: int) -> Self:
        """With the device, the rules and the connections that are there. Raises DriverFault."""
        port = cls(kept.name, kept.parent, seat, namespace)
        port._marks, port._led = kept.marks, frozenset(map(ipaddress.ip_network, kept.led))
        try:
            port._inside(port._open)
        except (NetlinkError, OSError, DriverFault) as error:
            port.let_go()
            raise _fault(kept.name, error) from error
        return port

    @property
    def kept(self) -> KeptPort:
        return KeptPort(
            name=self.name,
            parent=self._parent,
            seat=self.seat.texts,
            marks=self._marks,
            led=tuple(map(str, self._led)),
        )

    def _open(self) -> None:
        self._index = socket.if_nametoindex(DEVICE)
        self._devices = Devices()
        self._held.callback(self._devices.close)
        self._nft = Nftables()
        self._held.callback(self._nft.close)
        self.reports = nflog.bound(REPORTS)
        self.flows = flows.listening()
        """What there is to be told of it, as `egress` has them; open until `close`."""

    def put(self, policy: EgressPolicy, layout: Layout, *, shared: bool) -> None:
        """Let the sandbox do what the policy allows, from now on and nothing else. `shared`: packets go
        this way only to what its rules mean, all others by the device that leads to the node. Raises
        DriverFault, and the sandbox then has what it had."""
        self._marks += 1
        ways = self._ways(policy) if shared else _EVERYWHERE
        text = table(self.seat, policy, self._marks, layout)
        first = self._marks == 1
        try:
            self._nft.run(text)
            self._inside(lambda: self._bring_up(policy, layout) if first else self._renew(policy))
            self._inside(lambda: self._lead(ways))
        except (NetlinkError, OSError) as error:
            raise _fault(self.name, error) from error

    def _bring_up(self, policy: EgressPolicy, layout: Layout) -> None:
        for word, switches in _SWITCHES.items():
            for name, value in switches.items():
                Path(f"/proc/sys/net/{word}/conf/{DEVICE}/{name}").write_text(value)
        Path("/proc/sys/net/netfilter/nf_conntrack_acct").write_text("1")
        with IPRoute() as link:
            index = self._index
            bucket(link, index, policy.upload)
            for address in self.seat.addresses:
                flags = _NODAD if address.version == 6 else 0
                link.addr(
                    "add", index=index, address=str(address.ip),
                    prefixlen=address.network.prefixlen, flags=flags,
                )  # fmt: skip
            link.link("set", index=index, state="up")
            lead_to_node(link, layout.plan)  # whatever else goes this way

    def _renew(self, policy: EgressPolicy) -> None:
        with IPRoute() as link:
            bucket(link, self._index, policy.upload)
        _cut()

    def _ways(self, policy: EgressPolicy) -> frozenset[Net]:
        """What its rules mean beyond the interface's own network."""
        near = [address.network for address in self.seat.addresses]
        means = {rule.network() for rule in policy.allow}
        return frozenset(net for net in means if not any(_within(net, own) for own in near))

    def _lead(self, ways: frozenset[Net]) -> None:
        """Have packets to these networks, and no others but the interface's own, go by its router."""
        gateways = {gateway.version: str(gateway.ip) for gateway in self.seat.gateways}
        with IPRoute() as link:
            for what, nets in (("del", self._led - ways), ("add", ways - self._led)):
                for net in nets:
                    if net.version in gateways:
                        link.route(
                            what, dst=str(net), gateway=gateways[net.version], oif=self._index,
                            family=_FAMILIES[net.version], priority=_BEFORE,
                        )  # fmt: skip
                    self._led ^= {net}

    def traffic(self) -> tuple[int, int]:
        """Bytes that the sandbox has sent and got here. Raises DriverFault."""
        got, sent = self._devices.traffic(DEVICE)
        return sent, got

    def close(self) -> None:
        """Hear no more of it."""
        self.reports.close()
        self.flows.close()

    def end(self) -> None:
        """Take the device out of the sandbox. When this returns nobody has its addresses. Raises
        DriverFault, and nothing has then changed."""
        try:
            self._inside(_take_out)
        except (NetlinkError, OSError) as error:
            raise _fault(self.name, error) from error
        self.let_go()

    def let_go(self) -> None:
        """Leave the device to the namespace, which takes it along."""
        self._held.close()

    def _inside(self, work: Callable[[], T]) -> T:
        return inside(self._namespace, self._home, work)


_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_EVERYWHERE = frozenset(map(ipaddress.ip_network, ("0.0.0.0/0", "::/0")))


def _within(net: Net, other: Net) -> bool:
    return net.version == other.version and net.subnet_of(other)  # type: ignore[arg-type]


def _take_out() -> None:
    try:
        index = socket.if_nametoindex(DEVICE)
    except OSError:
        return  # the interface has gone, and taken it along
    with IPRoute() as link:
        link.link("set", index=index, state="down")
    _cut()
    _remove()


def _remove() -> None:
    with IPRoute() as link:
        link.link("del", index=socket.if_nametoindex(DEVICE))


def _cut() -> None:
    """Forget every connection of the calling thread's namespace."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with NFCTSocket(nfgen_family=family) as conntrack, suppress(NetlinkError):
            conntrack.flush()


def _fault(name: str, error: BaseException) -> DriverFault:
    return DriverFault("network", f"put a sandbox on {name}", str(error))
