"""Groups over nodes that encrypt: two hosts, a stranger on their wire, and all that the wire carries."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal
from uuid import uuid4

import pytest
from pyroute2 import WireGuard

from sandboxd.drivers.network import probe
from sandboxd.drivers.network.overlay import PORT
from sandboxd.drivers.network.slots import EgressSlot
from sandboxd.drivers.network.wireguard import KeyPair, Tunnel, address_of
from sandboxd.model.overlay import OverlayRecord, Peer
from sandboxd.queue.overlay import OverlayDirectory
from sandboxd.settings import NetworkSettings, RedisSettings, Settings
from tests.network.hosts import UNDERLAY, Node, Wire, forged, heard, until
from tests.network.world import World

pytestmark = pytest.mark.root

MARKER = b"tell nobody but the other sandbox"
PATIENCE = 60.0
"""Seconds: the guest is slow."""
_TUNNEL_PORT = NetworkSettings().overlay_port


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    # By their names: looking for each as it is wanted takes half a minute here.
    subprocess.run(["/.vm/modprobe", "-a", "bridge", "veth", "wireguard", "vxlan"], check=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(probe, "holds", lambda make: None)  # what nftables does is seen below
        wire = Wire()
        yield wire
        wire.close()


class Recorder:
    """Every packet that the two hosts, or the stranger, put on the wire."""

    def __init__(self, wire: Wire) -> None:
        self._ports = [wire.world.inside(wire.hub, partial(_port, n)) for n in range(3)]

    def heard(self) -> list[tuple[str, str, int, bytes]]:
        """Source, target and UDP port, where it is that of IPv4, and the whole frame, of those since the
        last time."""
        found = []
        for port in self._ports:
            with suppress(BlockingIOError):
                while True:
                    data, address = port.recvfrom(65_536)
                    if address[2] == socket.PACKET_OUTGOING:
                        continue
                    source, target, number = "", "", 0
                    if data[12:14] == b"\x08\0":
                        source, target = (socket.inet_ntoa(data[i : i + 4]) for i in (26, 30))
                        number = int.from_bytes(data[36:38]) if data[23] == 17 else 0
                    found.append((source, target, number, data))
        return found

    def close(self) -> None:
        for port in self._ports:
            port.close()


def _port(number: int) -> socket.socket:
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    port.bind((f"p{number}", 3))
    port.setblocking(False)
    return port


def settings_of(
    redis_url: str, directory: Path, encryption: Literal["none", "wireguard"] = "wireguard"
) -> Settings:
    secret = directory / "secret"
    secret.write_bytes(b"of the nodes alone, and of nobody else")
    secret.chmod(0o600)
    return Settings(
        instance=f"t{uuid4().hex[:8]}",
        redis=RedisSettings(url=redis_url),
        network=NetworkSettings(overlay_encryption=encryption, overlay_secret_file=str(secret)),
    )


@asynccontextmanager
async def running(wire: Wire, number: int, settings: Settings) -> AsyncIterator[Node]:
    node = Node(wire, number, settings, names=False)
    try:
        yield node
    finally:
        await node.close()


@asynccontextmanager
async def spanned(wire: Wire, settings: Settings) -> AsyncIterator[tuple[Node, Node]]:
    async with running(wire, 0, settings) as left, running(wire, 1, settings) as right:
        yield left, right


def say(world: World, by: EgressSlot, to: EgressSlot, family: socket.AddressFamily) -> bool:
    """Whether the marker arrives."""
    address = to.addresses.texts[family == socket.AF_INET6]
    hearing = world.inside(to.fd, lambda: socket.socket(family, socket.SOCK_DGRAM))
    speaking = world.inside(by.fd, lambda: socket.socket(family, socket.SOCK_DGRAM))
    with hearing, speaking:
        hearing.bind((address, 7000))
        hearing.settimeout(2)
        speaking.sendto(MARKER, (address, 7000))
        try:
            return hearing.recv(100) == MARKER
        except TimeoutError:
            return False


@pytest.mark.parametrize("encryption", ["wireguard", "none"])
async def test_the_wire_carries_nothing_but_wireguard(
    wire: Wire, redis_url: str, tmp_path: Path, encryption: Literal["none", "wireguard"]
) -> None:
    """`none` shows what the recorder would have seen."""
    recorder = Recorder(wire)
    async with spanned(wire, settings_of(redis_url, tmp_path, encryption)) as (left, right):
        world = wire.world
        web, database = await left.add("ann/red", "web"), await right.add("ann/red", "db")
        await until(lambda: heard(world, database, web), PATIENCE)
        for family in (socket.AF_INET, socket.AF_INET6):
            for one, other in ((web, database), (database, web)):
                await until(partial(say, world, one, other, family), PATIENCE)
    frames = recorder.heard()
    recorder.close()
    marked = [frame for frame in frames if MARKER in frame[3]]
    ports = {(frame[0], frame[2]) for frame in frames if frame[0] in UNDERLAY[:2]}
    if encryption == "wireguard":
        assert not marked
        assert ports == {(host, _TUNNEL_PORT) for host in UNDERLAY[:2]}
    else:
        assert {frame[2] for frame in marked} == {PORT}
        assert {frame[0] for frame in marked} == set(UNDERLAY[:2])


def sends(wire: Wire, host: int, packet: bytes, target: str) -> None:
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with wire.world.inside(
        wire.hosts[host], lambda: socket.socket(family, socket.SOCK_DGRAM)
    ) as sender:
        sender.sendto(packet, (target, PORT))


async def tunnel(wire: Wire, host: int, device: str, keys: KeyPair, *peers: Peer) -> None:
    """A device that stays."""

    def make() -> None:  # by one thread: what another has used of a netlink socket is never closed
        made = Tunnel(device, keys, _TUNNEL_PORT)
        try:
            made.connect(peers)
        finally:
            made.close()

    await asyncio.to_thread(wire.world.inside, wire.hosts[host], make)


def peers(wire: Wire, host: int, device: str) -> set[str]:
    """The keys that a host's device speaks with."""

    def ask() -> set[str]:
        with WireGuard() as link:
            told = link.info(device)
        return {
            peer.get_attr("WGPEER_A_PUBLIC_KEY").decode()
            for message in told
            for peer in message.get_attr("WGDEVICE_A_PEERS") or ()
        }

    return wire.world.inside(wire.hosts[host], ask)


async def test_who_has_no_key_that_the_nodes_know_reaches_nothing(
    wire: Wire, redis_url: str, tmp_path: Path
) -> None:
    recorder = Recorder(wire)
    async with spanned(wire, settings_of(redis_url, tmp_path)) as (left, right):
        world = wire.world
        web, database = await left.add("ann/red", "web"), await right.add("ann/red", "db")
        await until(lambda: heard(world, database, web), PATIENCE)
        recorder.heard()
        # A stranger with a tunnel of its own, who knows what nodes tell, and can write into Redis.
        own, inner = KeyPair.new(), address_of(left.driver.own.key)
        await tunnel(wire, 2, "stranger", own, left.driver.own)
        without = OverlayDirectory(
            Settings(instance=left.settings.instance, redis=left.settings.redis)
        )
        told = Peer(
            underlay=UNDERLAY[2], ipv4="10.99.0.0/24", ipv6="fd99::/112", key=own.public,
            port=_TUNNEL_PORT,
        )  # fmt: skip
        await without.tell(OverlayRecord(node="stranger", peer=told), changed=True)
        await without.close()
        packet = forged(right, left, str(database.addresses.ipv4), str(web.addresses.ipv4))
        hearing = world.inside(web.fd, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with hearing:
            hearing.bind((str(web.addresses.ipv4), 7000))
            hearing.settimeout(1)
            for host, target in ((2, UNDERLAY[0]), (1, UNDERLAY[0]), (2, inner)):
                sends(wire, host, packet, target)
                with pytest.raises(TimeoutError):
                    hearing.recv(100)
            # The same packet, by the tunnel of who is a peer.
            hearing.settimeout(PATIENCE)
            sends(wire, 1, packet, inner)
            assert hearing.recv(100) == b"forged"
        frames = recorder.heard()
        assert any(frame[:3] == (UNDERLAY[2], UNDERLAY[0], _TUNNEL_PORT) for frame in frames)
        assert not any(frame[:2] == (UNDERLAY[0], UNDERLAY[2]) for frame in frames)
        device = left.driver.plan.tunnel_device
        assert await asyncio.to_thread(peers, wire, 0, device) == {right.driver.own.key}
    recorder.close()


async def test_a_node_that_comes_again_has_another_key_and_is_followed(
    wire: Wire, redis_url: str, tmp_path: Path
) -> None:
    world, settings = wire.world, settings_of(redis_url, tmp_path)
    async with running(wire, 0, settings) as left:
        device = left.driver.plan.tunnel_device
        web = await left.add("ann/red", "web")
        async with running(wire, 1, settings) as right:
            former = right.driver.own.key
            await until(lambda: peers(wire, 0, device) == {former}, PATIENCE)
        await until(lambda: not peers(wire, 0, device), PATIENCE)
        # What a killed node leaves.
        await tunnel(wire, 1, device, KeyPair.new())
        async with running(wire, 1, settings) as again:
            database = await again.add("ann/red", "db")
            await until(lambda: heard(world, database, web), PATIENCE)
            assert await asyncio.to_thread(peers, wire, 0, device) == {again.driver.own.key}
            assert again.driver.own.key != former
        assert device not in {name for _, name in world.inside(wire.hosts[1], socket.if_nameindex)}
