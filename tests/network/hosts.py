"""Two hosts with a node each, and a stranger, on one wire that nobody else has."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import dns.message
import dns.query
import msgspec
from pyroute2 import IPRoute

from sandboxd.drivers.network.egress import EgressNetwork
from sandboxd.drivers.network.namespaces import close, here
from sandboxd.drivers.network.slots import EgressSlot
from sandboxd.model.egress import EgressPolicy
from sandboxd.native import new_netns
from sandboxd.node.network_guard import Guard
from sandboxd.node.network_overlay import Overlay
from sandboxd.queue.overlay import OverlayDirectory
from sandboxd.settings import Settings
from tests.network.driven import policy
from tests.network.world import World

T = TypeVar("T")
NOTHING, OTHER = policy(), policy(connections=7)
UNDERLAY = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
"""Of the two nodes, and of a stranger on their wire."""


class Wire:
    """Three hosts on one bridge, in namespaces of their own."""

    def __init__(self) -> None:
        self.hub, self.hosts = new_netns(), [new_netns() for _ in UNDERLAY]
        self.world = World(here(), self.hub, self.hub)
        self.world.inside(self.hub, self._join)
        for number in range(len(UNDERLAY)):
            self.world.inside(self.hosts[number], lambda n=number: self._arrive(n))

    def _join(self) -> None:
        with IPRoute() as link:
            link.link("add", ifname="br", kind="bridge")
            bridge = socket.if_nametoindex("br")
            link.link("set", index=bridge, state="up")
            for number, host in enumerate(self.hosts):
                peer = {"ifname": "ul", "net_ns_fd": host}
                link.link("add", ifname=f"p{number}", kind="veth", peer=peer)
                index = socket.if_nametoindex(f"p{number}")
                link.link("set", index=index, master=bridge, state="up")

    def _arrive(self, number: int) -> None:
        with IPRoute() as link:
            for name in ("ul", "lo"):
                link.link("set", index=socket.if_nametoindex(name), state="up")
            index = socket.if_nametoindex("ul")
            link.addr("add", index=index, address=UNDERLAY[number], prefixlen=24)
            # As on a host with a way to the world: what is let out would leave.
            link.route("add", dst="default", gateway=UNDERLAY[2], family=socket.AF_INET)
        for name in ("all", "default"):
            Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("0")

    def close(self) -> None:
        close(self.hub, *self.hosts, self.world.home)


class Mute:
    """Instead of a guard, where nobody asks for names: a process less."""

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def assign(self, slot: EgressSlot, policy: EgressPolicy, name: str) -> None:
        pass

    def release(self, slot: EgressSlot) -> None:
        pass

    def meet(self, mates: dict[int, dict[str, tuple[str, str]]]) -> None:
        pass


class Node:
    def __init__(self, wire: Wire, number: int, settings: Settings, *, names: bool = True) -> None:
        """Of its host's address and ranges, and of these settings else."""
        self.wire, self.number = wire, number
        network = msgspec.structs.replace(
            settings.network,
            enabled=True, slots=16, warm=0, firewall="nftables", resolvers=[UNDERLAY[2]],
            ipv4=f"10.{61 + number}.0.0/24", ipv6=f"fd61:{number}::/112",
            overlay=UNDERLAY[number],
        )  # fmt: skip
        self.settings = Settings(instance=settings.instance, redis=settings.redis, network=network)
        self.directory = OverlayDirectory(self.settings)
        self.driver: EgressNetwork = self._in(lambda: EgressNetwork("o", network))
        self.guard: Guard | Mute = (
            self._in(lambda: Guard(self.settings, self.driver)) if names else Mute()
        )
        self.overlay = Overlay(f"node{number}", self.driver, self.guard, self.directory)
        self.tasks = [asyncio.create_task(work) for work in (self.guard.run(), self.overlay.run())]
        self.slots: list[EgressSlot] = []

    def _in(self, work: Callable[[], T]) -> T:
        return self.wire.world.inside(self.wire.hosts[self.number], work)

    async def add(self, group: str, name: str, rules: EgressPolicy = NOTHING) -> EgressSlot:
        slot = await asyncio.to_thread(self.driver.take)
        await asyncio.to_thread(self.driver.assign, slot, rules, group)
        await self.guard.assign(slot, rules, name)
        if group:
            await self.overlay.joined(slot, name)
        self.slots.append(slot)
        return slot

    async def end(self, slot: EgressSlot) -> None:
        self.slots.remove(slot)
        self.guard.release(slot)
        self.overlay.left(slot)
        await asyncio.to_thread(self.driver.give_back, slot)

    def lookup(self, slot: EgressSlot, name: str, kind: str = "A") -> str:
        question = dns.message.make_query(f"{name}.internal.", kind)
        router = str(self.driver.plan.router4)
        answer = self.wire.world.inside(
            slot.fd, lambda: dns.query.udp(question, router, timeout=2)
        ).answer
        return answer[0][0].to_text() if answer else ""

    async def close(self) -> None:
        for slot in list(self.slots):
            await self.end(slot)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.to_thread(self.driver.close)
        await self.directory.close()


async def until(work: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(work):
            await asyncio.sleep(0.05)


def heard(world: World, to: EgressSlot, by: EgressSlot, family: int = socket.AF_INET) -> bool:
    """Whether a datagram of one sandbox reaches another, and the answer comes back."""
    address = str(to.addresses.ipv4 if family == socket.AF_INET else to.addresses.ipv6)
    server = world.inside(to.fd, lambda: socket.socket(family, socket.SOCK_DGRAM))
    with server:
        server.bind((address, 7000))
        server.settimeout(0.3)
        with ExitStack() as made:
            asking = made.enter_context(
                world.inside(by.fd, lambda: socket.socket(family, socket.SOCK_DGRAM))
            )
            asking.settimeout(0.3)
            try:
                asking.sendto(b"hi", (address, 7000))
                data, peer = server.recvfrom(10)
                server.sendto(data.upper(), peer)
                return asking.recv(10) == b"HI"
            except OSError:
                return False


def forged(by: Node, to: Node, source: str, target: str) -> bytes:
    """What a node would send if one of its sandboxes said `forged` to one of another's."""
    vxlan = b"\x08\0\0\0" + by.settings.network.overlay_id.to_bytes(3, "big") + b"\0"
    return vxlan + _mac(to) + _mac(by) + b"\x08\0" + _datagram(source, target)


def _mac(node: Node) -> bytes:
    return b"\x02^" + node.driver.plan.ipv4[0].packed


def _datagram(source: str, target: str) -> bytes:
    data = b"forged"
    udp_ = (7000).to_bytes(2, "big") * 2 + (8 + len(data)).to_bytes(2, "big") + b"\0\0" + data
    head = bytearray(b"E\0" + (20 + len(udp_)).to_bytes(2, "big") + b"\0\1\0\0@\x11\0\0")
    head += socket.inet_aton(source) + socket.inet_aton(target)
    total = sum(int.from_bytes(head[i : i + 2], "big") for i in range(0, 20, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    head[10:12] = (~total & 0xFFFF).to_bytes(2, "big")
    return bytes(head) + udp_
