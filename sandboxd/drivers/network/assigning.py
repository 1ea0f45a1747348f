"""Which rules hold for which slot: policies put on slots, and taken off them. For the driver's thread.

Each method raises DriverFault. A policy is written once, however many have it, and goes with the last of
them.
"""

import ipaddress
import logging
from collections.abc import Sequence

from sandboxd.drivers.network.addresses import QUARANTINE, Plan
from sandboxd.drivers.network.firewall import Firewall, Opening
from sandboxd.drivers.network.floor import Address
from sandboxd.drivers.network.groups import Groups
from sandboxd.drivers.network.links import Links
from sandboxd.drivers.network.macvlan.lans import Lans
from sandboxd.drivers.network.overlay import OverlayLink
from sandboxd.drivers.network.slots import EgressSlot, KeptSlot
from sandboxd.errors import DriverFault
from sandboxd.model.egress import EgressPolicy, by_address, on_node
from sandboxd.model.overlay import Mate, Peer

log = logging.getLogger(__name__)


class Assigner:
    def __init__(
        self,
        plan: Plan,
        links: Links,
        lans: Lans,
        firewall: Firewall,
        groups: Groups,
        overlay: OverlayLink | None,
    ) -> None:
        """`groups` are those that `firewall` has rules of already."""
        self._plan, self._links, self._lans = plan, links, lans
        self._firewall, self._groups, self._overlay = firewall, groups, overlay
        self._mates: Sequence[Mate] = ()
        self._peers: list[Address] = []

    def network_of(self, slot: EgressSlot) -> str:
        """Which network of sandboxes it is in, by a word that every node has for it; empty: none."""
        return self._groups.network(slot.group)

    def traffic(self, slot: EgressSlot) -> tuple[int, int]:
        """Bytes that the sandbox has sent and got, by the node and on an interface."""
        sent, received = self._links.traffic(slot.addresses.device)
        if slot.port is not None:
            more_sent, more_received = slot.port.traffic()
            return sent + more_sent, received + more_received
        return sent, received

    def assign(self, slot: EgressSlot, policy: EgressPolicy, network: str) -> None:
        """Put the slot under this policy. One of an interface's leaves it, by way of the node, what it
        names and who is in its network. Raises Overload too."""
        if policy.interface is None or (slot.port and slot.port.name != policy.interface):
            self._leave_port(slot)
        self._assign_link(slot, on_node(policy, network), network)
        if policy.interface is not None:
            shared = policy.named or bool(network)
            slot.port = self._lans.put(slot.port, by_address(policy), slot.fd, shared=shared)
            slot.unused = None  # the device will go again, what stands in the namespace stays
        slot.kept = self._kept(slot, policy, network)

    def _kept(self, slot: EgressSlot, policy: EgressPolicy, network: str) -> KeptSlot:
        """What another driver needs to go on with it."""
        return KeptSlot(
            index=slot.addresses.index,
            addresses=slot.addresses.texts,
            group=slot.group,
            mark=self._groups.mark(slot.group),
            policy=policy,
            network=network,
            port=slot.port.kept if slot.port is not None else None,
        )

    def _leave_port(self, slot: EgressSlot) -> None:
        if slot.port is not None:
            self._lans.leave(slot.port)
            slot.port = None

    def end_port(self, slot: EgressSlot) -> None:
        """Take it off the interface that it is on; what goes wrong is in the log alone."""
        try:
            self._leave_port(slot)
        except DriverFault as error:
            log.error("an address of an interface's network is not used again: %s", error)
            assert slot.port is not None
            slot.port.let_go()
            slot.port = None

    def _assign_link(self, slot: EgressSlot, policy: EgressPolicy, network: str) -> None:
        former, group = slot.group, self.hold(policy, network)
        try:
            rates = (policy.upload, policy.download)
            if rates != slot.rates:
                self._links.shape(slot.fd, slot.device, *rates)
                slot.rates = rates
            self._links.assign(slot.addresses.device, group)
        except BaseException:
            self.release(group)
            raise
        slot.group = group
        slot.assignments += 1
        if former != QUARANTINE:
            try:
                self._links.cut(slot.addresses)
                self._firewall.forget(slot.addresses, slot.openings)
                slot.openings = []
            finally:
                self.release(former)

    def renew(self, slot: EgressSlot, assignment: int, policy: EgressPolicy, network: str) -> bool:
        """The same, if the slot is still what it was at that assignment; whether it is."""
        if not _under(slot, assignment):
            return False
        self.assign(slot, policy, network)
        return True

    def hold(self, policy: EgressPolicy, network: str = "") -> int:
        """The group whose rules are this policy's, once more in use; written, if need be. Raises Overload
        too."""
        policy = on_node(policy, network)
        group, chains = self._groups.hold(policy, network)
        if chains is not None:
            try:
                self._firewall.put(self._plan.group(group), chains, members=bool(network))
                if network and self._mates:
                    self._meet()
            except BaseException:
                self._groups.release(group)
                raise
        return group

    def connect(self, peers: Sequence[Peer], mates: Sequence[Mate]) -> dict[str, int]:
        """Have ways to these nodes alone, and let our sandboxes and theirs meet where they are of one
        network; the groups of those networks."""
        assert self._overlay is not None
        self._peers = [ipaddress.ip_address(text) for text in self._overlay.connect(peers)]
        self._mates = mates
        self._meet()
        return self._groups.networks()

    def _meet(self) -> None:
        """Write who may see whom, as it is now."""
        groups = self._groups.networks()
        met = [
            (self._plan.group(groups[mate.group]), ipaddress.ip_address(address))
            for mate in self._mates
            if mate.group in groups
            for address in (mate.ipv4, mate.ipv6)
        ]
        self._firewall.connect(self._peers, met)

    def release(self, group: int) -> None:
        """One use less of a group; its rules go with the last."""
        if self._groups.release(group):
            if self._mates:
                self._meet()
            self._firewall.drop(self._plan.group(group))

    def open(self, slot: EgressSlot, assignment: int, openings: list[Opening]) -> None:
        """Let these through, if the slot is still what it was at that assignment."""
        if _under(slot, assignment):
            self._firewall.open(openings)
            slot.openings = [*slot.openings, *openings]


def _under(slot: EgressSlot, assignment: int) -> bool:
    """Whether the slot has the same sandbox as then, under what it was under."""
    return slot.group != QUARANTINE and slot.assignments == assignment
