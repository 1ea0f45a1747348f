"""A node's sessions on real sandboxes, reached through the agent's socket as a gateway does."""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sandboxd.drivers.exec.base import Spec
from sandboxd.errors import UnknownImage
from sandboxd.model.session import EndReason
from sandboxd.node.agent import Agent
from sandboxd.node.pool import Pool
from sandboxd.node.sessions.enforcing import OWN_PIDS
from sandboxd.node.sessions.registry import Registry
from sandboxd.node.sessions.server import Server
from sandboxd.queue.sessions import Sessions
from sandboxd.settings import load
from tests.node.bench import MIB, Bench
from tests.node.sessions.gateway import Box, Gateway


class FakeHost:
    """The part of Host that sessions use, over a driver of the test's."""

    networks = None

    def __init__(self, spec: Spec) -> None:
        self.specs = {"session": spec, "default": msgspec.structs.replace(spec, session=False)}

    async def on_image(self, spec: Spec, name: str) -> Spec:
        raise UnknownImage(f"no image {name}")

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
    def __init__(self, gateway: Gateway, registry: Registry, directory: Sessions) -> None:
        self.gateway, self.registry, self.directory = gateway, registry, directory


@pytest.fixture
async def node(bench: Bench, spec: Spec, redis_url: str, tmp_path: Path) -> AsyncIterator[Node]:
    before = _held()
    settings = load(
        environ={}, flags=[f"redis.url={redis_url}", f"instance=s{os.urandom(5).hex()}"]
    )
    pool = Pool(bench.driver, concurrency=2, max_age=600)
    pool.stock(spec, 1)
    directory = Sessions(settings)
    host: Any = FakeHost(spec)
    path = tmp_path / "node" / "agent.sock"
    registry = Registry(settings.sessions, host, pool, directory, node="n1", address=f"unix:{path}")
    agent = Agent({}, Server(registry))
    await agent.listen(path, os.getuid())
    yield Node(Gateway(path), registry, directory)
    await agent.close()
    await registry.end_all(EndReason.NODE_STOPPED)
    await pool.close()
    await directory.close()
    for _ in range(100):
        if _held() == before:
            break
        await asyncio.sleep(0.01)  # connections close a moment later
    assert _held() == before, "descriptors were left"


def _held() -> Counter[str]:
    """Kinds of descriptors that sessions use. Network namespaces are kept to be used again."""
    kinds: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            kinds[os.readlink(f"/proc/self/fd/{name}").split(":[")[0]] += 1
    del kinds["net"]
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
