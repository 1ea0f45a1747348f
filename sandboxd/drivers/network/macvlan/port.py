"""A sandbox's place on an interface's network: a device in its namespace, and what stands before it.

For the thread that made it, which is moved into that namespace and back.
"""

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

from sandboxd.drivers.network import flows, nflog
from sandboxd.drivers.network.devices import Devices
from sandboxd.drivers.network.firewall import Layout
from sandboxd.drivers.network.libnftables import Nftables
from sandboxd.drivers.network.links import bucket
from sandboxd.drivers.network.macvlan.seats import Seat
from sandboxd.drivers.network.macvlan.table import DEVICE, REPORTS, table
from sandboxd.drivers.network.namespaces import close, here, inside
from sandboxd.errors import DriverFault
from sandboxd.model.egress import EgressPolicy

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


class Port:
    def __init__(self, name: str, parent: int, seat: Seat, namespace: int) -> None:
        """Puts the device, still down, into the namespace; `parent` is the interface's index.

        Raises DriverFault.
        """
        self.name, self.seat = name, seat
        self._namespace, self._home = os.dup(namespace), here()
        self._held = ExitStack()
        self._held.callback(close, self._namespace, self._home)
        self._marks = 0
        try:
            with IPRoute() as link:
                link.link(
                    "add", ifname=DEVICE, kind="macvlan", link=parent, macvlan_mode="private",
                    address=seat.mac, net_ns_fd=self._namespace,
                )  # fmt: skip
            self._inside(self._open)
        except (NetlinkError, OSError, DriverFault) as error:
            with suppress(NetlinkError, OSError):  # it may not be there yet
                self._inside(_remove)
            self._held.close()
            raise _fault(name, error) from error

    def _open(self) -> None:
        self._index = socket.if_nametoindex(DEVICE)
        self._devices = Devices()
        self._held.callback(self._devices.close)
        self._nft = Nftables()
        self._held.callback(self._nft.close)
        self.reports = nflog.bound(REPORTS)
        self.flows = flows.listening()
        """What there is to be told of it, as `egress` has them; open until `close`."""

    def put(self, policy: EgressPolicy, layout: Layout) -> None:
        """Let the sandbox do what the policy allows, from now on and nothing else. Raises DriverFault,
        and the sandbox then has what it had."""
        self._marks += 1
        text = table(self.seat, policy, self._marks, layout)
        first = self._marks == 1
        try:
            self._nft.run(text)
            self._inside(lambda: self._bring_up(policy) if first else self._renew(policy))
        except (NetlinkError, OSError) as error:
            raise _fault(self.name, error) from error

    def _bring_up(self, policy: EgressPolicy) -> None:
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
            for gateway in self.seat.gateways:
                family, default = _DEFAULTS[gateway.version]
                link.route(
                    "add", dst=default, gateway=str(gateway.ip), oif=index, family=family,
                    priority=_BEFORE,
                )  # fmt: skip

    def _renew(self, policy: EgressPolicy) -> None:
        with IPRoute() as link:
            bucket(link, self._index, policy.upload)
        _cut()

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


_DEFAULTS = {4: (socket.AF_INET, "0.0.0.0/0"), 6: (socket.AF_INET6, "::/0")}


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
