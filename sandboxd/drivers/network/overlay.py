"""The way to other nodes' sandboxes: one vxlan device, a route for each node, perhaps a tunnel below.

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

from sandboxd.drivers.network import wireguard
from sandboxd.drivers.network.addresses import Plan, router_of
from sandboxd.drivers.network.wireguard import KeyPair, Tunnel
from sandboxd.errors import DriverFault
from sandboxd.model.overlay import Peer

PORT = 4_789
"""UDP, as IANA has it."""
MTU = 1_430
"""Bytes of a sandbox's packet, so that it fits into one of an underlay's 1,500."""
TUNNELLED_MTU = wireguard.MTU - 70
"""The same in a tunnel: less IPv6, UDP, vxlan and Ethernet."""
_PERMANENT = 0x80


class OverlayLink:
    def __init__(self, plan: Plan, own: Peer, number: int, keys: KeyPair | None) -> None:
        """Makes the device; `number` is the network's (VNI). With `keys`, `own`'s among them, it goes
        through a tunnel. Of the calling thread's namespace. Raises DriverFault."""
        self._plan, self._own, self._peers = plan, own, set[Peer]()
        self._tunnel = Tunnel(plan.tunnel_device, keys, own.port) if keys is not None else None
        self._netlink = IPRoute()
        try:
            local = _far_end(own)
            more: dict[str, Any] = {"vxlan_local6" if ":" in local else "vxlan_local": local}
            if self._tunnel is not None:
                more["vxlan_link"] = self._tunnel.index
            name = plan.overlay_device
            self._netlink.link(
                "add", ifname=name, kind="vxlan", vxlan_id=number, vxlan_port=PORT,
                vxlan_learning=False, address=_mac(plan.ipv4), mtu=mtu(own), **more,
            )  # fmt: skip
            self._index = socket.if_nametoindex(name)
            self._netlink.link("set", index=self._index, state="up", arp=False)
        except (NetlinkError, OSError) as error:
            self.close()
            raise DriverFault("network", "make the overlay's device", str(error)) from error

    def close(self) -> None:
        self._netlink.close()
        if self._tunnel is not None:
            self._tunnel.close()

    def connect(self, peers: Sequence[Peer]) -> list[str]:
        """Have a way to these and to no others; the addresses that their packets come from. One who
        encrypts has no way to one who does not. Raises DriverFault."""
        wanted = {peer for peer in self._alike(peers) if not self._overlaps(peer)}
        try:
            if self._tunnel is not None:
                self._tunnel.connect(wanted)
            for peer in self._peers - wanted:
                with suppress(NetlinkError):  # half of it may never have been there
                    self._change("del", peer)
            for peer in wanted - self._peers:
                self._change("add", peer)
        except (NetlinkError, OSError) as error:
            raise DriverFault("network", "connect to a node", str(error)) from error
        self._peers = wanted
        return sorted(_far_end(peer) for peer in wanted)

    def _alike(self, peers: Sequence[Peer]) -> list[Peer]:
        if self._tunnel is not None:
            return wireguard.admitted(peers, self._own.key)
        return [peer for peer in peers if not peer.key]

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
            link.fdb("append", ifindex=self._index, lladdr=mac, dst=_far_end(peer))
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
            link.fdb("del", ifindex=self._index, lladdr=mac, dst=_far_end(peer))


def mtu(own: Peer) -> int:
    """Bytes of a packet of this node's sandboxes."""
    return TUNNELLED_MTU if own.key else MTU


def _far_end(peer: Peer) -> str:
    """Where a node's vxlan packets come from and go to."""
    return wireguard.address_of(peer.key) if peer.key else peer.underlay


def _mac(net: ipaddress.IPv4Network) -> str:
    return "02:5e:" + ":".join(f"{byte:02x}" for byte in net[0].packed)
