"""`egress`: slots whose sandboxes reach what a policy names, through this node and its firewall.

A slot is made in quarantine, where every packet is dropped; its device gets under a policy's rules when
its sandbox is handed out, and into quarantine again when the sandbox is gone. A slot that its sandbox
left untouched serves another; one that was used is dropped with its namespace, which the kernel takes
down later by itself, and its addresses come round again after all others, and only once their device is
gone.

Everything that talks to the kernel runs in one thread: netlink sockets, the firewall's library and the
calling thread's namespace are no things to share.
"""

import asyncio
import ipaddress
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import ParamSpec, TypeVar

import dns.resolver

from sandboxd.drivers.network import flows, nflog, overlay, wireguard
from sandboxd.drivers.network.addresses import QUARANTINE, Plan
from sandboxd.drivers.network.assigning import Assigner
from sandboxd.drivers.network.base import Slot
from sandboxd.drivers.network.firewall import Firewall, Layout, Opening
from sandboxd.drivers.network.floor import floor
from sandboxd.drivers.network.links import Links
from sandboxd.drivers.network.macvlan.lans import Lans
from sandboxd.drivers.network.overlay import OverlayLink
from sandboxd.drivers.network.probe import choose
from sandboxd.drivers.network.resuming import resume
from sandboxd.drivers.network.slots import UNSHAPED, EgressSlot, KeptSlot, fingerprint
from sandboxd.drivers.network.wireguard import KeyPair
from sandboxd.errors import DriverFault, Overload
from sandboxd.model.egress import EgressPolicy
from sandboxd.model.overlay import Mate, Peer
from sandboxd.settings import NetworkSettings, SettingsError

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

_SETTLING = 10.0
"""Seconds in which a new link's kernel says something by itself (multicast listener reports)."""
_MTU = 1_500
"""Bytes of a sandbox's packet, unless it has to fit into another node's."""


class EgressNetwork:
    def __init__(
        self,
        instance: str,
        settings: NetworkSettings,
        omit: frozenset[str] = frozenset(),
        kept: Sequence[tuple[KeptSlot, int]] = (),
    ) -> None:
        """Sets up the firewall and the router in the calling process's network namespace.

        `omit` are rules that a test leaves out; `kept` are slots of sandboxes that have outlived the
        node before this one, and their namespaces, to be asked for by `reclaim`. Raises SettingsError
        or DriverFault.
        """
        self.plan = Plan(instance, settings.ipv4, settings.ipv6, settings.slots)
        self.floor = floor(settings.private, (self.plan.ipv4, self.plan.ipv6))
        self._settings = settings
        encrypted = bool(settings.overlay) and settings.overlay_encryption == "wireguard"
        self._keys = KeyPair.new() if encrypted else None
        self.own = Peer(
            underlay=settings.overlay,
            ipv4=str(self.plan.ipv4),
            ipv6=str(self.plan.ipv6),
            key=self._keys.public if self._keys else "",
            port=settings.overlay_port if self._keys else 0,
        )
        """What other nodes have to know of this one."""
        self._thread = ThreadPoolExecutor(1, "network")
        self._ident = self._thread.submit(threading.get_ident).result()
        self._lock = threading.Lock()
        self._free = deque(range(settings.slots))
        self._warm: deque[EgressSlot] = deque()
        self._closing = False
        self._refilling = False
        self._resumed: dict[int, EgressSlot] = {}
        """By index, until somebody has asked for them."""
        self.ended: Callable[[EgressSlot], None] | None = None
        """Called, in the driver's thread, when a slot's sandbox is gone: after its connections are, and
        before its addresses are free."""
        try:
            self._do(self._set_up, self._layout(omit), kept)
        except BaseException:
            self._thread.shutdown()
            raise
        self._refill()

    def _layout(self, omit: frozenset[str]) -> Layout:
        asked = self._settings.resolvers or dns.resolver.Resolver().nameservers
        return Layout(
            self.plan,
            self.floor,
            self._settings.nat,
            reports=self.plan.reports,
            guard=self._settings.uid,
            resolvers=tuple(ipaddress.ip_network(str(address)) for address in asked),
            overlay=overlay.PORT if self._settings.overlay else 0,
            tunnel=self._keys.address if self._keys else "",
            omit=omit,
        )

    def _set_up(self, layout: Layout, kept: Sequence[tuple[KeptSlot, int]]) -> None:
        if layout.tunnel:
            wireguard.require()
        self._links = Links(self.plan)
        lans = Lans(self._settings.macvlan, self.plan, layout.omit)
        self._firewall: Firewall = choose(self._settings.firewall, layout)
        if layout.overlay and self._firewall.name != "nftables":
            raise SettingsError("network.overlay: only nftables has rules for that")
        groups, resumed = resume(self._firewall, self.plan, lans, kept)
        self._links.prepare([slot.addresses for slot in resumed])
        for slot in resumed:
            self._links.assign(slot.addresses.device, slot.group)
            self._free.remove(slot.addresses.index)
            self._resumed[slot.addresses.index] = slot
        self._overlay = self._overlay_link() if layout.overlay else None
        self._assigner = Assigner(
            self.plan, self._links, lans, self._firewall, groups, self._overlay
        )
        self.reports = nflog.bound(self.plan.reports)
        self.flows = flows.listening()

    def _overlay_link(self) -> OverlayLink:
        keys, self._keys = self._keys, None  # the kernel has them from here on
        return OverlayLink(self.plan, self.own, self._settings.overlay_id, keys)

    @property
    def firewall(self) -> str:
        """Which of them it is."""
        return self._firewall.name

    def take(self) -> EgressSlot:
        try:
            slot = self._warm.popleft()
        except IndexError:
            slot = self._do(self._take)
        finally:
            self._refill()
        if slot.unused is None or time.monotonic() - slot.made_at < _SETTLING:
            slot.unused = fingerprint(slot.fd)
        return slot

    def reclaim(self, kept: KeptSlot) -> EgressSlot:
        """The slot that was kept so, under what it was under. Raises DriverFault if it is not there."""
        slot = self._resumed.pop(kept.index, None)
        if slot is None:
            raise DriverFault("network", "take over a slot", f"{kept.index} is not there")
        return slot

    def give_up(self) -> None:
        """End those slots that nobody has reclaimed."""
        while self._resumed:
            self.give_back(self._resumed.popitem()[1])

    def give_back(self, slot: Slot) -> None:
        """In a moment: nobody waits for it."""
        assert isinstance(slot, EgressSlot)
        self._thread.submit(self._end_or_tell, slot)

    async def soon(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One of the methods here, without a second thread that waits for it. Raises as it does."""
        return await asyncio.wrap_future(self._thread.submit(method, *args, **kwargs))

    def keep(self, policy: EgressPolicy) -> int:
        """Have the rules of this policy written ahead; the group that they are. Raises as `assign`."""
        return self._do(self._assigner.hold, policy)

    def unkeep(self, group: int) -> None:
        """The rules go with the last sandbox that has them. Raises DriverFault."""
        self._do(self._assigner.release, group)

    def assign(self, slot: EgressSlot, policy: EgressPolicy, network: str = "") -> None:
        """Let the slot's sandbox do what the policy allows, from now on and nothing else: what is open
        and not allowed is cut. Sandboxes of one `network` (by name) and policy also see one another.

        Blocks for a millisecond. Raises DriverFault, or Overload if too many policies are in use.
        """
        self._do(self._assigner.assign, slot, policy, network)

    def renew(
        self, slot: EgressSlot, assignment: int, policy: EgressPolicy, network: str = ""
    ) -> bool:
        """As `assign`, unless the slot's `assignments` have gone on, or its sandbox is gone: False."""
        return self._do(self._assigner.renew, slot, assignment, policy, network)

    def open(self, slot: EgressSlot, assignment: int, openings: list[Opening]) -> None:
        """Let through what a name was answered with, unless the slot's `assignments` have gone on.

        Raises DriverFault, for an address of the floor too: who asks may be in a stranger's hands.
        """
        for opening in openings:
            if self.floor.holds(opening.address):
                raise DriverFault("network", "open", f"{opening.address} is in the floor")
        self._do(self._assigner.open, slot, assignment, openings)

    def network_of(self, slot: EgressSlot) -> str:
        """Which network of sandboxes it is in, by a word that every node has for it; empty: none."""
        return self._do(self._assigner.network_of, slot)

    def connect(self, peers: Sequence[Peer], mates: Sequence[Mate]) -> dict[str, int]:
        """Have ways to these nodes alone, and let their sandboxes and ours see one another where they
        are of one network; the groups of those networks. Raises DriverFault."""
        return self._do(self._assigner.connect, peers, mates)

    def traffic(self, slot: Slot) -> tuple[int, int]:
        """Bytes that the sandbox has sent and got. Waits for nothing, unless it is on an interface's
        network. Raises DriverFault."""
        assert isinstance(slot, EgressSlot)
        if slot.port is None:
            return self._links.traffic(slot.addresses.device)
        return self._do(self._assigner.traffic, slot)

    def dropped(self) -> dict[str, int]:
        """Packets that were stopped, by the rule's name."""
        return self._do(self._firewall.dropped)

    def close(self) -> None:
        """Take everything down that is on the host. No slot may be in use."""
        with self._lock:
            self._closing = True
        self._do(self._tear_down)
        self._thread.shutdown()

    def _tear_down(self) -> None:
        while self._warm:
            os.close(self._warm.pop().fd)
        while self._resumed:
            os.close(self._resumed.popitem()[1].fd)
        if self._overlay is not None:
            self._overlay.close()
        self._links.sweep()
        self._firewall.remove()
        self.reports.close()
        self.flows.close()
        self._links.close()

    def _take(self) -> EgressSlot:
        """In its turn, after those that were to be given back."""
        return self._warm.popleft() if self._warm else self._make()

    def _make(self) -> EgressSlot:
        for _ in range(len(self._free)):
            index = self._free.popleft()
            addresses = self.plan.slot(index)
            if self._links.exists(addresses.device):
                self._free.append(index)  # the kernel is not done with its former life
                continue
            try:
                mtu = overlay.mtu(self.own) if self._overlay is not None else _MTU
                fd, device = self._links.make(addresses, mtu)
            except BaseException:
                self._free.append(index)
                raise
            return EgressSlot(fd=fd, addresses=addresses, device=device, made_at=time.monotonic())
        raise Overload("every network slot of the node is in use", retry_after=1.0)

    def _end_or_tell(self, slot: EgressSlot) -> None:
        try:
            self._end(slot)
        except DriverFault as error:
            log.error("a network slot did not end well: %s", error)

    def _end(self, slot: EgressSlot) -> None:
        with ExitStack() as last:  # all of it, in this order from below, whatever fails
            last.callback(self._put_away, slot)
            if slot.group != QUARANTINE:
                if self.ended is not None:
                    last.callback(self.ended, slot)
                last.callback(self._assigner.release, slot.group)
            self._assigner.end_port(slot)
            if slot.group != QUARANTINE:
                self._links.assign(slot.addresses.device, QUARANTINE)
            if self._as_it_was(slot):
                slot.clean = True
                return
            self._links.cut(slot.addresses)
            if slot.group != QUARANTINE:
                self._firewall.forget(slot.addresses, slot.openings)

    def _as_it_was(self, slot: EgressSlot) -> bool:
        """Whether its sandbox has left nothing in it."""
        return (
            not self._closing
            and slot.rates == UNSHAPED
            and fingerprint(slot.fd) == slot.unused is not None
        )

    def _put_away(self, slot: EgressSlot) -> None:
        """Keep it for another sandbox if it is clean, and is wanted."""
        clean, slot.clean = slot.clean, False
        slot.group, slot.openings, slot.kept = QUARANTINE, [], None
        if clean and len(self._warm) < max(1, 2 * self._settings.warm):
            self._warm.append(slot)
        else:
            os.close(slot.fd)
            self._free.append(slot.addresses.index)

    def _refill(self) -> None:
        """Make slots ahead, off whoever's way this is."""
        with self._lock:
            if self._closing or self._refilling or len(self._warm) >= self._settings.warm:
                return
            self._refilling = True
            self._thread.submit(self._refill_one)

    def _refill_one(self) -> None:
        made = False
        try:
            if not self._closing and len(self._warm) < self._settings.warm:
                self._warm.append(self._make())
                made = True
        except (DriverFault, Overload) as error:
            log.warning("no network slot is made ahead: %s", error)
        finally:
            self._refilling = False
        if made:
            self._refill()

    def _do(self, work: Callable[..., T], *arguments: object) -> T:
        if threading.get_ident() == self._ident:
            return work(*arguments)
        future: Future[T] = self._thread.submit(work, *arguments)
        return future.result()
