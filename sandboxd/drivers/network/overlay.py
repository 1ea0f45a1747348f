"""The way to other nodes' sandboxes: one vxlan device, a route for each node.

Nothing is learnt from packets: which node has which range, and where it is, is told. Devices have no ARP;
a node's link-layer address follows from its range. What may pass is the firewall's to say.
"""

import ipaddress
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from sandboxd.drivers.network.addresses import Plan, router_of
from sandboxd.errors import DriverFault
from sandboxd.model.overlay import Peer

PORT = 4_789
"""UDP, as IANA has it."""
MTU = 1_430
"""Bytes of a sandbox's packet, so that it fits into one of an underlay's 1,500."""
_PERMANENT = 0x80


class OverlayLink:
    def __init__(self, plan: Plan, underlay: str, number: int) -> None:
        """Makes the device; `number` is the network's (VNI). Of the calling thread's namespace. Raises
        DriverFault."""
        self._plan, self._peers = plan, set[Peer]()
        self._netlink = IPRoute()
        try:
            local = "vxlan_local6" if ":" in underlay else "vxlan_local"
            name = plan.overlay_device
            self._netlink.link(
                "add", ifname=name, kind="vxlan", vxlan_id=number, vxlan_port=PORT,
                vxlan_learning=False, address=_mac(plan.ipv4), mtu=MTU, **{local: underlay},
            )  # fmt: skip
            self._index = socket.if_nametoindex(name)
            self._netlink.link("set", index=self._index, state="up", arp=False)
        except (NetlinkError, OSError) as error:
            self._netlink.close()
            raise DriverFault("network", "make the overlay's device", str(error)) from error

    def close(self) -> None:
        self._netlink.close()

    def connect(self, peers: Sequence[Peer]) -> None:
        """Have a way to these and to no others. Raises DriverFault."""
        wanted = {peer for peer in peers if not self._overlaps(peer)}
        try:
            for peer in self._peers - wanted:
                with suppress(NetlinkError):  # half of it may never have been there
                    self._change("del", peer)
            for peer in wanted - self._peers:
                self._change("add", peer)
        except (NetlinkError, OSError) as error:
            raise DriverFault("network", "connect to a node", str(error)) from error
        self._peers = wanted

    def _overlaps(self, peer: Peer) -> bool:
        """Its range is in part our own: packets for it would leave the node."""
        return any(
            ipaddress.ip_network(theirs).overlaps(ours)
            for theirs, ours in ((peer.ipv4, self._plan.ipv4), (peer.ipv6, self._plan.ipv6))
        )

    def _change(self, verb: str, peer: Peer) -> None:
        link: Any = self._netlink
        mac = _mac(ipaddress.IPv4Network(peer.ipv4))
        if verb == "add":
            link.fdb("append", ifindex=self._index, lladdr=mac, dst=peer.underlay)
        for text, family in ((peer.ipv4, socket.AF_INET), (peer.ipv6, socket.AF_INET6)):
            gateway = str(router_of(ipaddress.ip_network(text)))
            if verb == "add":
                link.neigh(
                    "add", dst=gateway, lladdr=mac, ifindex=self._index, state=_PERMANENT,
                    family=family,
                )  # fmt: skip
            link.route(
                verb, dst=text, gateway=gateway, oif=self._index, family=family, flags=["onlink"]
            )
            if verb == "del":
                link.neigh("del", dst=gateway, ifindex=self._index, family=family)
        if verb == "del":
            link.fdb("del", ifindex=self._index, lladdr=mac, dst=peer.underlay)


def _mac(net: ipaddress.IPv4Network) -> str:
    return "02:5e:" + ":".join(f"{byte:02x}" for byte in net[0].packed)
