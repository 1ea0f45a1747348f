"""A node's sessions on real sandboxes, reached through the agent's socket as a gateway does."""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from sandboxd.drivers.exec.base import Spec
from sandboxd.drivers.graph.copies import Copies
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.overlay import Rootfs
from sandboxd.drivers.graph.volumes import Volumes
from sandboxd.model.session import EndReason
from sandboxd.node.adopting import Adopted
from sandboxd.node.agent import Agent
from sandboxd.node.fitting import Fitter
from sandboxd.node.mounts import Mounts
from sandboxd.node.network_audit import NetworkAudit
from sandboxd.node.pool import Pool
from sandboxd.node.sessions.enforcing import OWN_PIDS
from sandboxd.node.sessions.registry import Registry
from sandboxd.node.sessions.server import Server
from sandboxd.queue.network_records import NetworkRecords
from sandboxd.queue.sessions import Sessions
from sandboxd.settings import Settings, load
from tests.node.bench import MIB, Bench
from tests.node.sessions.gateway import Box, Gateway


class FakeHost:
    """The part of Host that sessions use, over a driver of the test's."""

    networks = None
    policies = SimpleNamespace(templates={})
    """None of them has a context."""

    def __init__(self, bench: Bench, spec: Spec, graph: Graph, rootfs: Rootfs) -> None:
        self.specs = {"session": spec, "default": msgspec.structs.replace(spec, session=False)}
        self.graph, self.rootfs = graph, rootfs
        self.copies = Copies(graph, rootfs, lambda tenant: 1 << 30)
        self.volumes = Volumes(
            graph.store, graph.uid_base, lambda uid: bench.driver.owner_map(graph.uid_base, uid)
        )
        self.mounts = Mounts(
            graph, rootfs, self.volumes, lambda uid: bench.driver.owner_map(graph.uid_base, uid)
        )
        rootfs.host = spec.image

    def take_adopted(self) -> list[Adopted]:
        return []

    @property
    def locks(self) -> list[int]:
        return []

    def open_files(self, template: str) -> int:
        return 256


@pytest.fixture
def spec(bench: Bench) -> Spec:
    return msgspec.structs.replace(
        bench.spec,
        template="session",
        session=True,
        memory=192 * MIB,
        pids=32 + OWN_PIDS - 1,
        disk=64 * MIB,
    )


class Node:
    def __init__(
        self, gateway: Gateway, registry: Registry, directory: Sessions, graph: Graph
    ) -> None:
        self.gateway, self.registry, self.directory = gateway, registry, directory
        self.graph = graph


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    names = (f"redis.url={redis_url}", f"instance=s{os.urandom(5).hex()}")
    return load(environ={}, flags=[*names, f"state_dir={tmp_path}/state"])


@pytest.fixture
def graph(settings: Settings) -> Iterator[Graph]:
    with Graph(settings) as graph:
        yield graph


@pytest.fixture
def rootfs(settings: Settings, graph: Graph) -> Rootfs:
    return Rootfs(graph, settings.graph.uid_base)


@pytest.fixture
async def node(
    bench: Bench, spec: Spec, settings: Settings, graph: Graph, rootfs: Rootfs, tmp_path: Path
) -> AsyncIterator[Node]:
    before = _held()
    pool = Pool(bench.driver, concurrency=2, max_age=600)
    pool.stock(spec, 1)
    directory, records = Sessions(settings), NetworkRecords(settings)
    host: Any = FakeHost(bench, spec, graph, rootfs)
    fitter = Fitter(host, pool)
    path = tmp_path / "node" / "agent.sock"
    registry = Registry(
        settings.sessions,
        host,
        pool,
        fitter,
        directory,
        node="n1",
        address=f"unix:{path}",
        keeper=tmp_path / "keeper.sock",
        audit=NetworkAudit(records),
    )
    agent = Agent({}, Server(registry))
    await agent.listen(path, os.getuid())
    yield Node(Gateway(path), registry, directory, graph)
    await agent.close()
    fitter.close()
    await registry.end_all(EndReason.NODE_STOPPED)
    await pool.close()
    await directory.close()
    await records.close()
    for _ in range(100):
        if not _held() - before:
            break
        await asyncio.sleep(0.01)  # connections close a moment later
    # Fewer may be held: what a test before had left to be closed counted when this one began.
    assert not _held() - before, "descriptors were left"


def _held() -> Counter[str]:
    """Kinds of descriptors that sessions use. Namespaces are kept to be used again."""
    kinds: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            kinds[os.readlink(f"/proc/self/fd/{name}").split(":[")[0]] += 1
    del kinds["net"], kinds["user"]
    return kinds


@pytest.fixture
async def gateway(node: Node) -> Gateway:
    return node.gateway


@pytest.fixture
async def box(gateway: Gateway) -> Box:
    """An open sandbox."""
    return await gateway.create()


@pytest.fixture(autouse=True)
def _only_as_root() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    yield
