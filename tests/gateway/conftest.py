"""A gateway on a real queue and a real socket, and a node that only pretends to run programs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from sandboxd.gateway.app import build_app
from sandboxd.gateway.auth import Keys
from sandboxd.gateway.context import Gateway
from sandboxd.model import (
    Compile,
    Language,
    LimitOverrides,
    Limits,
    SelfTest,
    Template,
)
from sandboxd.policy import LimitPolicy, Policies
from sandboxd.queue import Queue
from sandboxd.settings import GatewaySettings, RedisSettings, Settings
from tests.gateway.fakes import FakeNode
from tests.gateway.serving import serving

_SELF_TEST = SelfTest(source="", stdout="")


@pytest.fixture(scope="session")
def policies() -> Policies:
    """Two languages, one of which compiles, and one template."""
    python = Language(
        name="python", title="Python 3", aliases=["py"], source="main.py",
        run=["python3", "{source}"], self_test=_SELF_TEST,
    )  # fmt: skip
    c = Language(
        name="c", title="C", source="main.c", run=["./a.out"], self_test=_SELF_TEST,
        compile=Compile(command=["cc", "{source}"], artifacts=["a.out"]),
        limits=LimitOverrides(pids=32),
    )  # fmt: skip
    return Policies(
        limits=LimitPolicy(
            defaults=Limits(),
            maximum=Limits(
                cpu_time=60, wall_time=120, memory=1 << 30, pids=1024, output=4 << 20,
                disk=256 << 20, open_files=1024, stack=512 << 20,
            ),
            compile_defaults=Limits(memory=512 << 20),
        ),
        languages={"python": python, "c": c},
        templates={"default": Template(name="default", cpus=0.5)},
    )  # fmt: skip


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings(
        instance=f"t{uuid4().hex[:12]}",
        redis=RedisSettings(url=redis_url),
        gateway=GatewaySettings(
            header_timeout=1.0,
            body_timeout=1.0,
            idle_timeout=5.0,
            max_body=1 << 20,
            shutdown_timeout=0.3,
            outage_timeout=0.3,
        ),
    )


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[Queue]:
    queue = Queue.connect(settings)
    yield queue
    await queue.close()


@pytest.fixture
def keys_file(tmp_path: Path) -> str:
    """Override in a module whose tests want keys."""
    return ""


@pytest.fixture
def keys(keys_file: str) -> Keys:
    return Keys(keys_file)


@pytest.fixture
async def gateway(
    settings: Settings, policies: Policies, queue: Queue, keys: Keys
) -> AsyncIterator[Gateway]:
    gateway = Gateway(settings, policies, queue, keys)
    async with gateway.running():
        yield gateway


@pytest.fixture
async def port(gateway: Gateway) -> AsyncIterator[int]:
    """Where the gateway serves."""
    app, settings = build_app(gateway), gateway.settings.gateway
    async with serving(app, settings, gateway.close, patience=10) as port:
        yield port


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """The application without a socket; answers come whole."""
    transport = httpx.ASGITransport(build_app(gateway))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:7070") as client:
        yield client


@pytest.fixture
async def wire(port: int) -> AsyncIterator[httpx.AsyncClient]:
    """The served application."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        yield client


@pytest.fixture
async def make_node(
    settings: Settings, tmp_path: Path
) -> AsyncIterator[Callable[[], Awaitable[FakeNode]]]:
    async with contextlib.AsyncExitStack() as stack:

        async def make() -> FakeNode:
            queue = Queue.connect(settings)
            stack.push_async_callback(queue.close)
            node = FakeNode(queue, tmp_path / "agent.sock")
            working = asyncio.create_task(node.work())
            stack.push_async_callback(_end, working)
            await node.announced.wait()
            return node

        yield make


async def _end(working: asyncio.Task[None]) -> None:
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working


@pytest.fixture
async def node(make_node: Callable[[], Awaitable[FakeNode]]) -> FakeNode:
    """A live node that answers each run with what `FakeNode.answer` says."""
    return await make_node()
