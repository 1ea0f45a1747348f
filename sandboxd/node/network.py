"""Networks of sandboxes on this node: which of them are offered, and how one gets a sandbox's packets
out.

A sandbox that is to have a network is built with a slot, in quarantine, on a shelf of its own in the
pool; which policy it is under is decided when it is handed out, so that one shelf serves every policy.
"""

import asyncio
import ipaddress
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from sandboxd.drivers.exec.base import Built, Spec
from sandboxd.drivers.graph.image import Image
from sandboxd.drivers.network import flows, nflog
from sandboxd.drivers.network.egress import EgressNetwork
from sandboxd.drivers.network.slots import EgressSlot
from sandboxd.errors import DriverFault
from sandboxd.model.egress import EgressPolicy, NetworkRequest, SandboxNetwork, narrowed
from sandboxd.model.network_use import NetworkRecord
from sandboxd.node.network_boundary import Boundary
from sandboxd.node.network_guard import Guard
from sandboxd.node.network_overlay import Overlay
from sandboxd.node.network_use import Use, of_firewall, of_flow, of_guard
from sandboxd.node.warmth import network_shelf
from sandboxd.queue.overlay import OverlayDirectory
from sandboxd.settings import Settings

_CUT_OFF = EgressPolicy(name="none")
"""What a sandbox that was built with a network has when it is to have none."""


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


class Networks:
    def __init__(self, settings: Settings, policies: dict[str, EgressPolicy]) -> None:
        """Raises SettingsError or DriverFault where this host cannot hold to a policy."""
        self._policies = policies
        self._uses: dict[int, Use] = {}
        self.driver = EgressNetwork(settings.instance, settings.network)
        try:
            for policy in policies.values():
                self.driver.keep(policy)
            self._boundary = Boundary(settings.network, policies.values())
            self.guard = Guard(settings, self.driver, self._boundary)
            self._overlay = self._spanning(settings)
            self._layer = _write_layer(
                settings.state_path / "network" / "layer",
                str(self.driver.plan.router4),
                self._boundary.files,
            )
        except BaseException:
            self.driver.close()
            raise

    def _spanning(self, settings: Settings) -> Overlay | None:
        """What makes groups span nodes, where the settings say so."""
        underlay = settings.network.overlay
        if not underlay:
            return None
        self._directory = OverlayDirectory(settings)
        return Overlay(settings.node_name, underlay, self.driver, self.guard, self._directory)

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

    async def attach(
        self,
        built: Built,
        asked: str | NetworkRequest | SandboxNetwork,
        member: Member = _ALONE,
    ) -> Use:
        """Put a sandbox under the policy of that name, or a part of it: a new one, or one that runs,
        whose open connections are then held against it. What it does is written down in the answer.

        Raises DriverFault, or Overload if too many policies and groups are in use.
        """
        name = asked if isinstance(asked, str) else asked.policy
        policy = _CUT_OFF if name == _CUT_OFF.name else self._policies.get(name)
        if policy is None or not isinstance(built.slot, EgressSlot):
            raise DriverFault("network", "find the policy", name)
        if not isinstance(asked, str) and asked.allow is not None:
            try:
                policy = narrowed(policy, asked.allow)
            except ValueError as error:
                raise DriverFault("network", "narrow the policy", str(error)) from None
        use = self._uses.setdefault(built.slot.addresses.index, Use(built.slot, self.driver))
        await asyncio.to_thread(self.driver.assign, built.slot, policy, member.group)
        if policy.named or member.group:
            await self.guard.assign(built.slot, policy, member.name)
        else:
            self.guard.release(built.slot)  # it may have had names until now
        if self._overlay is not None:
            if member.group:
                await self._overlay.joined(built.slot, member.name)
            else:
                self._overlay.left(built.slot)
        return use

    async def run(self) -> None:
        """Keep what answers names and carries connections running, until cancelled."""
        loop = asyncio.get_running_loop()
        self.driver.ended = lambda slot: _quietly(loop, self._over, slot)
        self.guard.seen = lambda ward, seen: self._told(ward.slot.addresses.index, of_guard(seen))
        loop.add_reader(self.driver.reports, self._reported)
        loop.add_reader(self.driver.flows, self._flowed)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.guard.run())
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
        self._uses.pop(slot.addresses.index, None)

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
        use = self._uses.get(index)
        if use is not None:
            use.add(record)

    def close(self) -> None:
        self.driver.close()
        self._boundary.close()


def _quietly(
    loop: asyncio.AbstractEventLoop, work: Callable[[EgressSlot], None], slot: EgressSlot
) -> None:
    with suppress(RuntimeError):  # the loop has ended, and the guard with it
        loop.call_soon_threadsafe(work, slot)


def _write_layer(directory: Path, resolver: str, more: Mapping[str, bytes]) -> Path:
    """A layer that has the resolver's address, and `more` by path. The node's own directory: no sandbox
    writes there."""
    shutil.rmtree(directory, ignore_errors=True)
    conf = f"nameserver {resolver}\noptions timeout:2 attempts:2\n"
    for name, content in {"etc/resolv.conf": conf.encode(), **more}.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o644)
    for place in (directory, *(found for found in directory.rglob("*") if found.is_dir())):
        place.chmod(0o755)
    return directory
