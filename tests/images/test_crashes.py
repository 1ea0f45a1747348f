"""`kill -9` at random moments of everything that writes the store: it is whole afterwards.

Each child is a fork with a store of its own hands on the same directory, working until it is killed. What
it leaves is looked at by who comes next, and is gone after a collection.
"""

import asyncio
import itertools
import os
import random
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from sandboxd.drivers.exec.base import Built
from sandboxd.drivers.exec.native import NativeDriver
from sandboxd.drivers.graph import registry
from sandboxd.drivers.graph.builder.build import Build
from sandboxd.drivers.graph.builder.context import unpacked
from sandboxd.drivers.graph.collection import collect
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.holders import alive
from sandboxd.drivers.graph.overlay import Rootfs
from sandboxd.drivers.graph.snapshot import snapshot
from sandboxd.drivers.graph.verify import verify
from sandboxd.node.workshop import workshop
from sandboxd.settings import Settings
from tests.drivers.graph.archives import LINK, Item, archive
from tests.drivers.graph.test_rootfs import BUSYBOX, driver, spec
from tests.drivers.graph.test_store import tagged
from tests.images.debian_registry import registry as debian_registry
from tests.native.box import run

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("docker-registry") is None, reason="needs docker-registry"),
]
__all__ = ["driver"]
POINTS = 10
"""Of each operation; five operations."""
Work = Callable[[Graph, int], None]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return msgspec.structs.replace(
        Settings(),
        instance=f"c{secrets.token_hex(4)}",
        state_dir=str(tmp_path / "state"),
        run_dir=str(tmp_path / "run"),
        node=msgspec.structs.replace(Settings().node, uid_base=0xDC00_0000),
    )


@pytest.fixture
def base(settings: Settings) -> str:
    with Graph(settings) as graph:
        items = [BUSYBOX, Item("bin/sh", kind=LINK, to="busybox")]
        return tagged(graph, "base", archive(items))


@pytest.fixture
def changed(settings: Settings, base: str, driver: NativeDriver) -> Iterator[Built]:
    """A sandbox that has written two megabytes."""
    with Graph(settings) as graph:
        rootfs = Rootfs(graph, settings.graph.uid_base)
        built = driver.build(spec(rootfs.image("base")))
        script = "for i in $(seq 20); do dd if=/dev/urandom of=/work/$i bs=100k count=1; done 2>&1"
        run(built.native, ["/bin/busybox", "sh", "-c", script]).out()
        yield built
        driver.destroy(built)


def unpacks(graph: Graph, turn: int) -> None:
    files = [Item(f"f{number}", b"%d-%d" % (turn, number)) for number in range(200)]
    tagged(graph, f"u{turn % 3}", archive(files))


def collects(graph: Graph, turn: int) -> None:
    tagged(graph, "g", archive([Item("f", b"%d" % turn)]))
    graph.store.untag("g:latest")
    collect(graph.store)


def builds(settings: Settings) -> Work:
    def work(graph: Graph, turn: int) -> None:
        async def build() -> None:
            await asyncio.to_thread(in_thread, asyncio.get_running_loop())

        def in_thread(loop: asyncio.AbstractEventLoop) -> None:
            with graph.store.leasing() as lease, workshop(settings, graph, loop) as runner:
                with graph.store.writing(lease) as blob:
                    blob.write(archive([Item("a", b"%d" % turn)]))
                with unpacked(graph, graph.store.blob(blob.digest)) as context:
                    text = "FROM base\nCOPY a /a\nRUN busybox cp /a /b\nCOPY a /c\n"
                    build = Build(
                        graph, lease, resolve=graph.images.resolve, runner=runner,
                        report=lambda _: None,
                    )  # fmt: skip
                    digest = build.build(text, context, {})
                graph.store.tag("built:latest", digest)

        asyncio.run(build())

    return work


def killed_at(settings: Settings, work: Work, delay: float, first: int) -> None:
    """Let a child work over and over until it is killed, `delay` seconds after it began."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with Graph(settings) as graph:
                os.write(writing, b"x")
                for turn in itertools.count(first):
                    work(graph, turn)
        finally:
            os._exit(1)
    os.close(writing)
    assert os.read(reading, 1) == b"x", "the child ended before it began"
    os.close(reading)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the child ended by itself"


def check(settings: Settings) -> None:
    with Graph(settings) as graph:
        assert list(verify(graph.store)) == []
        # A child of the killed one may take a moment longer to die.
        deadline = time.monotonic() + 10
        while True:
            collect(graph.store)
            left = os.listdir(graph.store.root / "staging")
            if not left:
                break
            assert time.monotonic() < deadline, left
            time.sleep(0.02)
        assert list(verify(graph.store)) == []
        assert graph.images.resolve("base")
        directory = graph.store.root / "holders"
        assert [name for name in os.listdir(directory) if not alive(directory, name)] == []


@pytest.mark.parametrize("what", ["unpack", "build", "snapshot", "gc", "pull"])
@pytest.mark.slow
def test_the_store_is_whole_after_a_kill(
    what: str, settings: Settings, base: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if what == "snapshot":
        built: Built = request.getfixturevalue("changed")

        def work(graph: Graph, turn: int) -> None:
            with graph.store.leasing() as lease:
                scratch, uid = built.native.scratch, built.uid
                digest = snapshot(graph.images, lease, base, scratch, uid, f"{turn}")
                graph.store.tag("snapshot:latest", digest)
            if turn % 2:
                graph.store.untag("snapshot:latest")
                collect(graph.store)
            graph.store.settle()

        through(settings, work, what)
    elif what == "pull":
        (tmp_path / "registry").mkdir()
        with debian_registry(tmp_path / "registry") as address:
            name = registry.remote_name(f"{address}/x:1")
            with Graph(settings) as graph:
                content = os.urandom(300_000)
                digest = tagged(
                    graph, "x", *[archive([Item("f", content + b"%d" % n)]) for n in range(4)]
                )
                with registry.Client(name, push=True) as client:
                    registry.push(client, graph.images, digest, lambda *_: None)
                graph.store.untag("x:latest")

            def pull(graph: Graph, turn: int) -> None:
                with graph.store.leasing() as lease, registry.Client(name) as client:
                    digest = registry.pull(client, graph.images, lease, lambda *_: None)
                    graph.store.tag("pulled:latest", digest)
                graph.store.untag("pulled:latest")
                collect(graph.store)

            through(settings, pull, what)
    else:
        through(
            settings, {"unpack": unpacks, "gc": collects, "build": builds(settings)}[what], what
        )


def through(settings: Settings, work: Work, what: str) -> None:
    dice = random.Random(what)
    for point in range(POINTS):
        killed_at(settings, work, dice.uniform(0.0, 0.4), 1000 * point)
        check(settings)
