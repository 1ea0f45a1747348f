"""Networks of sandboxes on this node: which of them are offered, and how one gets a sandbox's packets
out.

A sandbox that is to have a network is built with a slot, in quarantine, on a shelf of its own in the
pool; which policy it is under is decided when it is handed out, so that one shelf serves every policy.
"""

import asyncio
import hashlib
import ipaddress
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from sandboxd.drivers.exec.base import Built, Spec
from sandboxd.drivers.graph.image import Image
from sandboxd.drivers.network import flows, nflog
from sandboxd.drivers.network.egress import EgressNetwork
from sandboxd.drivers.network.slots import EgressSlot, KeptSlot
from sandboxd.egress_files import EgressFiles
from sandboxd.errors import DriverFault, SandboxdError, SandboxEnded
from sandboxd.model.egress import EgressPolicy, SandboxNetwork
from sandboxd.model.network_use import NetworkRecord
from sandboxd.node.network_boundary import Boundary
from sandboxd.node.network_ends import Ends
from sandboxd.node.network_guard import Guard
from sandboxd.node.network_hearing import Hearing
from sandboxd.node.network_overlay import Overlay
from sandboxd.node.network_policies import CUT_OFF, Asked, Offered
from sandboxd.node.network_use import Use, of_firewall, of_flow, of_guard
from sandboxd.node.warmth import network_shelf
from sandboxd.queue.overlay import OverlayDirectory
from sandboxd.settings import Settings

log = logging.getLogger(__name__)


class Member(Struct, frozen=True):
    """A sandbox among those that see one another."""

    group: str = ""
    """Of the whole node; empty: it is alone."""
    name: str = ""


_ALONE = Member()


def member_of(tenant: str, sandbox: str, asked: str | SandboxNetwork) -> Member:
    """Groups of two tenants are two, whatever they are called."""
    if isinstance(asked, str) or asked.group is None:
        return _ALONE
    return Member(f"{tenant}/{asked.group}", asked.hostname or sandbox.replace("_", "-"))


class _Held(Struct, eq=False):
    """A sandbox that has had a policy."""

    slot: EgressSlot
    use: Use
    asked: Asked = CUT_OFF.name
    member: Member = _ALONE
    policy: EgressPolicy = CUT_OFF
    assignment: int = 0
    hearing: Hearing | None = None
    changed: Callable[[], None] = lambda: None
    """Told when it is under another policy."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Of who changes it: the last word is the last one that was asked for, or that the files say."""


class Networks:
    def __init__(
        self,
        settings: Settings,
        policies: dict[str, EgressPolicy],
        kept: Sequence[tuple[KeptSlot, int]] = (),
    ) -> None:
        """`kept` are of sandboxes that have outlived the node before this one, with their namespaces.
        Raises SettingsError or DriverFault where this host cannot hold to a policy."""
        self._held: dict[int, _Held] = {}
        self.driver = EgressNetwork(settings.instance, settings.network, kept=kept)
        try:
            files = EgressFiles(settings.policy_path / "egress", policies, settings.network.macvlan)
            self._offered = Offered(files, self.driver)
            self._boundary = Boundary(settings.network, policies.values())
            self.guard = Guard(settings, self.driver, self._boundary)
            self._overlay = self._spanning(settings)
            self._layer = _write_layer(
                settings.state_path / "network" / "layers",
                str(self.driver.plan.router4),
                self._boundary.files,
                others=bool(kept),
            )
        except BaseException:
            self.driver.close()
            raise

    def _spanning(self, settings: Settings) -> Overlay | None:
        """What makes groups span nodes, where the settings say so."""
        if not settings.network.overlay:
            return None
        self._directory = OverlayDirectory(settings)
        return Overlay(settings.node_name, self.driver, self.guard, self._directory)

    def spec(self, spec: Spec) -> Spec:
        """A template's spec, of sandboxes that have a network."""
        return replace(
            spec,
            template=network_shelf(spec.template),
            image=self._on_top(spec.image),
            network=self.driver,
        )

    def _on_top(self, image: Image) -> Image:
        """The image with our /etc/resolv.conf over its own, and what it needs for attached secrets."""
        env = {**self._boundary.env, **dict(image.env)}
        below = (image.lower, *image.below)
        return replace(image, lower=self._layer, below=below, env=tuple(env.items()))

    async def attach(self, built: Built, asked: Asked, member: Member = _ALONE) -> Use:
        """Put a sandbox under the policy of that name, or a part of it: a new one, or one that runs,
        whose open connections are then held against it. What it does is written down in the answer.

        Raises InvalidRequest if there is no such policy any more, DriverFault, or Overload if too many
        policies and groups are in use.
        """
        slot = built.slot
        if not isinstance(slot, EgressSlot):
            raise DriverFault("network", "find the link", "the sandbox was built without one")
        held = self._held.get(slot.addresses.index)
        if held is None or held.slot is not slot:
            return await self._begin(slot, asked, member)
        async with held.turn:
            policy = self._offered.wanted(asked)
            if not await self._renew(held, policy, member):
                raise SandboxEnded("the sandbox has ended")
            held.asked, held.member = asked, member
        return held.use

    async def _begin(self, slot: EgressSlot, asked: Asked, member: Member) -> Use:
        held = self._held[slot.addresses.index] = _Held(slot, Use(slot, self.driver))
        try:
            async with held.turn:
                policy = self._offered.wanted(asked)
                await self.driver.soon(self.driver.assign, slot, policy, member.group)
                held.asked, held.member = asked, member
                held.policy, held.assignment = policy, slot.assignments
                self._listen(held)
                await self._tell(held, policy, member)
        except BaseException:
            if self._held.get(slot.addresses.index) is held:
                del self._held[slot.addresses.index]
            raise
        return held.use

    def follow(self, built: Built, changed: Callable[[], None]) -> None:
        """Call this whenever the sandbox has been put under another policy."""
        slot = built.slot
        held = self._held.get(slot.addresses.index) if isinstance(slot, EgressSlot) else None
        if held is not None and held.slot is slot:
            held.changed = changed

    def kept(self, built: Built) -> KeptSlot | None:
        """What the node after this one needs to go on with a sandbox's network; None if it cannot."""
        return built.slot.kept if isinstance(built.slot, EgressSlot) else None

    async def restore(self, built: Built, kept: KeptSlot, asked: Asked, member: Member) -> Use:
        """Go on with a sandbox of the node before this one, under what its policy says today. The guard
        hears of it when it begins: until then nothing that has a name is answered.

        Raises DriverFault, or Overload if too many policies and groups are in use.
        """
        slot = built.slot
        assert isinstance(slot, EgressSlot)
        held = _Held(slot, Use(slot, self.driver), asked, member, kept.policy)
        self._held[slot.addresses.index] = held
        policy = self._offered.still(asked) or kept.policy
        if not self._boundary.has(policy):
            log.error("a sandbox of network %s is cut off: its secrets are gone", policy.name)
            policy, member = CUT_OFF, _ALONE
        if policy != kept.policy:
            await self.driver.soon(self.driver.assign, slot, policy, member.group)
        held.policy, held.assignment = policy, slot.assignments
        self._listen(held)
        if policy.named or member.group:
            self.guard.expect(slot, policy, member.name, lambda seen: held.use.add(of_guard(seen)))
        if self._overlay is not None and member.group:
            await self._overlay.joined(slot, member.name)
        return held.use

    async def _tell(self, held: _Held, policy: EgressPolicy, member: Member) -> None:
        """Have those know who answer for it besides the firewall. Raises DriverFault."""
        slot = held.slot
        if policy.named or member.group:
            await self.guard.assign(
                slot, policy, member.name, lambda seen: held.use.add(of_guard(seen))
            )
        else:
            self.guard.release(slot)  # it may have had names until now
        if self._overlay is not None:
            if member.group:
                await self._overlay.joined(slot, member.name)
            else:
                self._overlay.left(slot)

    async def _follow(self, changed: asyncio.Event) -> None:
        """Hold every sandbox against the operator's files, each time that they may have changed."""
        while True:
            await changed.wait()
            changed.clear()
            others = await asyncio.to_thread(self._offered.reread)
            secrets = await asyncio.to_thread(self._boundary.reread)
            if secrets:
                self.guard.relearn()
            if others or secrets:
                for held in list(self._held.values()):
                    async with held.turn:
                        await self._hold(held, secrets)

    async def _hold(self, held: _Held, secrets: set[str]) -> None:
        """Against what its policy says now, with these secrets anew. One that has become impossible
        leaves it nothing."""
        policy = self._offered.still(held.asked) or held.policy
        if policy == held.policy and secrets.isdisjoint(each.secret for each in policy.attach):
            return
        try:
            await self._renew(held, policy, held.member)
        except SandboxdError as error:
            log.error("a sandbox of network %s is cut off: %s", policy.name, error)
            try:
                await self._renew(held, CUT_OFF, _ALONE)
            except SandboxdError as fault:
                log.error("and is not: %s", fault)

    async def _renew(self, held: _Held, policy: EgressPolicy, member: Member) -> bool:
        """Whether the sandbox is still there: another may have its slot by now."""
        slot = held.slot
        try:
            there = await self.driver.soon(
                self.driver.renew, slot, held.assignment, policy, member.group
            )
        except SandboxdError:
            held.assignment = slot.assignments  # half of it may hold by now
            raise
        if there and self._held.get(slot.addresses.index) is held:
            held.policy, held.assignment = policy, slot.assignments
            self._listen(held)
            held.changed()
            await self._tell(held, policy, member)
        return there

    def _listen(self, held: _Held) -> None:
        """To what is told of it where the node itself sees no packet."""
        port, hearing = held.slot.port, held.hearing
        if hearing is not None and hearing.port is not port:
            hearing.close()
            held.hearing = None
        if port is not None and held.hearing is None:
            held.hearing = Hearing(port, held.use.add)

    async def run(self, changed: asyncio.Event) -> None:
        """Keep what answers names and carries connections running, and read the policies again whenever
        they have `changed`, until cancelled."""
        loop = asyncio.get_running_loop()
        self.driver.ended = Ends(loop, self._over).add
        loop.add_reader(self.driver.reports, self._reported)
        loop.add_reader(self.driver.flows, self._flowed)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.guard.run())
                tasks.create_task(self._follow(changed))
                if self._overlay is not None:
                    tasks.create_task(self._overlay.run())
        finally:
            loop.remove_reader(self.driver.reports)
            loop.remove_reader(self.driver.flows)
            if self._overlay is not None:
                await self._directory.close()

    def _over(self, slot: EgressSlot) -> None:
        self._flowed()  # what its end has cut is told already, and is still its own
        self.guard.release(slot)
        if self._overlay is not None:
            self._overlay.left(slot)
        held = self._held.pop(slot.addresses.index, None)
        if held is not None:
            self._listen(held)

    def _reported(self) -> None:
        with suppress(OSError):  # nothing left, or the kernel had more than it could keep
            for report in nflog.reports(self.driver.reports.recv(65_536)):
                index = self.driver.plan.index_of(ipaddress.ip_address(report.source))
                if index is not None:
                    self._told(index, of_firewall(report))

    def _flowed(self) -> None:
        with suppress(OSError):
            while True:
                for flow in flows.flows(self.driver.flows.recv(65_536)):
                    index = self.driver.plan.index_of(ipaddress.ip_address(flow.source))
                    if index is not None:
                        self._told(index, of_flow(flow))

    def _told(self, index: int, record: NetworkRecord) -> None:
        held = self._held.get(index)
        if held is not None:
            held.use.add(record)

    def close(self) -> None:
        self.driver.close()
        self._boundary.close()


def _write_layer(parent: Path, resolver: str, more: Mapping[str, bytes], *, others: bool) -> Path:
    """A layer that has the resolver's address, and `more` by path; sandboxes may stand on `others`. The
    node's own directory: no sandbox writes there."""
    conf = f"nameserver {resolver}\noptions timeout:2 attempts:2\n"
    files = {"etc/resolv.conf": conf.encode(), **more}
    if not others:
        shutil.rmtree(parent, ignore_errors=True)
    digest = hashlib.blake2b(repr(sorted(files.items())).encode(), digest_size=8)
    directory, draft = parent / digest.hexdigest(), parent / "draft"
    if directory.exists():
        return directory
    shutil.rmtree(draft, ignore_errors=True)
    for name, content in files.items():
        file = draft / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o644)
    for place in (draft, *(found for found in draft.rglob("*") if found.is_dir())):
        place.chmod(0o755)
    return draft.rename(directory)
