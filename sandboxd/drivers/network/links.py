"""Devices, addresses and routes of slots, by netlink (pyroute2). For one thread, which it may move
between network namespaces but always brings back.

A slot's two ends form a link of their own: neither asks for nor answers to a link-layer address (NOARP,
and permanent entries, which also do not count against the kernel's one table of neighbours), so there
is nothing to spoof or to flood on it. The node's side has a route to exactly the slot's two addresses,
which is what makes every other source be seen as spoofed.
"""

import errno
import ipaddress
import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

from sandboxd.drivers.network import flows
from sandboxd.drivers.network.addresses import QUARANTINE, Addresses, Plan
from sandboxd.drivers.network.devices import Devices
from sandboxd.drivers.network.namespaces import here, inside
from sandboxd.errors import DriverFault
from sandboxd.native import new_netns

_PERMANENT, _NODAD = 0x80, 0x02
_GATEWAY4, _GATEWAY6 = "169.254.1.1", "fe80::1"
"""The next hop as a sandbox sees it. Nobody has these addresses; their link-layer address is fixed."""
_DEVICE = "eth0"
_METRIC = 1_024
"""Of its way out: another device's may go before it."""


class Links:
    def __init__(self, plan: Plan) -> None:
        """Of the calling thread's namespace."""
        self._plan = plan
        self._home = here()
        self._netlink = IPRoute()
        self._devices = Devices()
        self._conntrack = {
            family: NFCTSocket(nfgen_family=family) for family in (socket.AF_INET, socket.AF_INET6)
        }

    def close(self) -> None:
        self._netlink.close()
        self._devices.close()
        for conntrack in self._conntrack.values():
            conntrack.close()
        os.close(self._home)

    def prepare(self, living: Collection[Addresses] = ()) -> None:
        """Remove what an earlier node of this instance left, but these slots, switch forwarding and the
        counting of connections' bytes on, put the router up."""
        self.sweep({slot.device for slot in living})
        self._cut_others({slot.index for slot in living})
        for path in (
            "ipv4/ip_forward", "ipv6/conf/all/forwarding", "netfilter/nf_conntrack_acct",
        ):  # fmt: skip
            switch = Path("/proc/sys/net") / path
            if switch.read_text().strip() != "1":
                switch.write_text("1")
        with _translated("make the router's device"):
            link = self._netlink
            # A pair whose both ends stay here is a device of no network that every kernel with slots has.
            name = self._plan.router_device
            link.link("add", ifname=name, kind="veth", peer={"ifname": f"{name}0"})
            for end in (name, f"{name}0"):
                link.link("set", index=socket.if_nametoindex(end), state="up", arp=False)
            index = socket.if_nametoindex(self._plan.router_device)
            link.addr("add", index=index, address=str(self._plan.router4), prefixlen=32)
            link.addr(
                "add", index=index, address=str(self._plan.router6), prefixlen=128, flags=_NODAD
            )

    def sweep(self, living: Collection[str] = ()) -> int:
        """Remove every device of this instance but these; how many there were."""
        found = [
            index
            for index, name in socket.if_nameindex()
            if name.startswith(self._plan.prefix) and name not in living
        ]
        with _translated("remove old devices"):
            for index in found:
                with suppress(NetlinkError):  # its namespace was just being dropped
                    self._netlink.link("del", index=index)
        return len(found)

    def _cut_others(self, living: Collection[int]) -> None:
        """Marks begin anew with each node: no connection of a dead sandbox may carry one."""
        sources = {ipaddress.ip_address(flow.source) for flow in flows.known()}
        for index in {self._plan.index_of(source) for source in sources}:
            if index is not None and index not in living:
                self.cut(self._plan.slot(index))

    def make(self, slot: Addresses, mtu: int = 1_500) -> tuple[int, int]:
        """A namespace with the slot's device in it, in quarantine: its descriptor, which the caller
        owns, and the index of the node's end.

        Raises DriverFault, for one if the former device of this slot is still being removed.
        """
        namespace = new_netns()
        try:
            with _translated(f"make {slot.device}"):
                self._netlink.link(
                    "add", ifname=slot.device, kind="veth", address=slot.mac,
                    group=self._plan.group(QUARANTINE), mtu=mtu,
                    peer={"ifname": _DEVICE, "net_ns_fd": namespace, "address": slot.mac, "mtu": mtu},
                )  # fmt: skip
                index = socket.if_nametoindex(slot.device)
                self._arrange(self._netlink, index, slot, str(slot.ipv4), str(slot.ipv6))
                for net in (f"{slot.ipv4}/32", f"{slot.ipv6}/128"):
                    _route("add", self._netlink, dst=net, oif=index)
                inside(namespace, self._home, lambda: self._inside(slot))
        except BaseException:
            os.close(namespace)
            raise
        return namespace, index

    def _inside(self, slot: Addresses) -> None:
        # No router speaks to it and no address is made up: what it has is what it is given here.
        for name, value in (
            ("accept_ra", "0"),
            ("addr_gen_mode", "1"),
            ("router_solicitations", "0"),
        ):
            Path(f"/proc/sys/net/ipv6/conf/{_DEVICE}/{name}").write_text(value)
        with IPRoute() as link:
            index = socket.if_nametoindex(_DEVICE)
            link.link("set", index=socket.if_nametoindex("lo"), state="up")
            self._arrange(link, index, slot, _GATEWAY4, _GATEWAY6)
            for address, length, flags in ((slot.ipv4, 32, 0), (slot.ipv6, 128, _NODAD)):
                link.addr("add", index=index, address=str(address), prefixlen=length, flags=flags)
            for default in ("0.0.0.0/0", "::/0"):
                _lead("add", link, index, default)

    def _arrange(self, link: Any, index: int, slot: Addresses, next4: str, next6: str) -> None:
        """Bring one end up, with the other end's addresses known to it."""
        link.link("set", index=index, state="up", arp=False)
        for family, address in ((socket.AF_INET, next4), (socket.AF_INET6, next6)):
            link.neigh(
                "add", dst=address, lladdr=slot.mac, ifindex=index, state=_PERMANENT, family=family
            )

    def assign(self, device: str, offset: int) -> None:
        """Put a device under the rules of a group. Raises DriverFault."""
        self._devices.set_group(device, self._plan.group(offset))

    def shape(self, namespace: int, index: int, upload: int | None, download: int | None) -> None:
        """Bound what the sandbox sends and gets, in bytes a second; None lifts the bound.

        Each direction waits at the end where it is sent: its own device for what it sends, which it
        has no right to change, and the node's end for what it gets. Raises DriverFault.
        """
        with _translated("shape a device"):
            bucket(self._netlink, index, download)
            inside(namespace, self._home, lambda: _shape_inside(upload))

    def traffic(self, device: str) -> tuple[int, int]:
        """Bytes that the sandbox has sent and got since its device was made. Waits for nothing; for any
        thread. Raises DriverFault."""
        return self._devices.traffic(device)

    def exists(self, device: str) -> bool:
        try:
            socket.if_nametoindex(device)
        except OSError:
            return False
        return True

    def cut(self, slot: Addresses) -> None:
        """Forget every connection that the slot's addresses opened, so that none goes on."""
        with _translated("flush connections"):
            for family, address in (
                (socket.AF_INET, slot.ipv4),
                (socket.AF_INET6, slot.ipv6),
            ):
                opened_by = NFCTAttrTuple(family=family, saddr=str(address))
                opened_by.attrs()  # sets its flags
                only = {"attrs": [["CTA_FILTER_ORIG_FLAGS", opened_by.flags]]}
                try:
                    self._conntrack[family].entry("del", tuple_orig=opened_by, cta_filter=only)
                except NetlinkError as error:
                    if error.code != errno.EINVAL:
                        raise
                    flows.forget(
                        str(address)
                    )  # a kernel that deletes by whole tuples alone: 6.1 is one


def lead_to_node(link: Any, plan: Plan) -> None:
    """Have packets to other sandboxes and to the router leave the calling thread's namespace by the
    device that leads to the node, wherever others go. Raises NetlinkError, OSError."""
    index = socket.if_nametoindex(_DEVICE)
    for net in (plan.ipv4, plan.ipv6):
        _lead("replace", link, index, str(net))


def _lead(do: str, link: Any, index: int, net: str) -> None:
    gateway = _GATEWAY6 if ":" in net else _GATEWAY4
    _route(do, link, dst=net, gateway=gateway, oif=index, flags=["onlink"], priority=_METRIC)


def _route(do: str, link: Any, *, dst: str, **rest: Any) -> None:
    family = socket.AF_INET6 if ":" in dst else socket.AF_INET
    link.route(do, dst=dst, family=family, **rest)


def _shape_inside(rate: int | None) -> None:
    with IPRoute() as link:
        bucket(link, socket.if_nametoindex(_DEVICE), rate)


def bucket(link: Any, index: int, rate: int | None) -> None:
    """Bound what a device sends, in bytes a second; None lifts the bound. Raises NetlinkError."""
    if rate is None:
        with suppress(NetlinkError):  # there was none
            link.tc("del", index=index, root=True)
        return
    # A tenth of a second at once, and one full packet of a device that offloads in any case.
    burst = max(rate // 10, 70_000)
    link.tc("replace", "tbf", index, 0x10000, rate=rate, burst=burst, latency="200ms")


@contextmanager
def _translated(operation: str) -> Iterator[None]:
    try:
        yield
    except (NetlinkError, OSError) as error:
        raise DriverFault("network", operation, str(error)) from error
