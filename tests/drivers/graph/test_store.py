"""The store keeps what is referred to, loses what is not, and survives being killed."""

import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from sandboxd.drivers.graph import importing
from sandboxd.drivers.graph.collection import collect
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.images import full_name
from sandboxd.drivers.graph.store import Lease, Store
from sandboxd.drivers.graph.verify import verify
from sandboxd.errors import InvalidImage, UnknownImage
from sandboxd.model.image import Config, RootFs
from sandboxd.settings import Settings
from tests.drivers.graph.archives import Item, archive


def image(graph: Graph, lease: Lease, *layers: bytes) -> str:
    blobs = []
    for data in layers:
        with graph.store.writing(lease) as writer:
            writer.write(data)
        blobs.append(importing.layer_of(graph.store, writer.digest))
    made = graph.layers.ensure(blob.digest for blob in blobs)
    config = Config(architecture="amd64", os="linux", rootfs=RootFs([x.diff_id for x in made]))
    return graph.images.assemble(lease, config, blobs)


def tagged(graph: Graph, name: str, *layers: bytes) -> str:
    with graph.store.leasing() as lease:
        digest = image(graph, lease, *layers)
        graph.store.tag(full_name(name), digest)
    return digest


def layer(text: str) -> bytes:
    return archive([Item("f", text.encode())])


def test_a_blob_of_another_digest_is_refused_and_leaves_nothing(graph: Graph) -> None:
    with (
        graph.store.leasing() as lease,
        pytest.raises(InvalidImage, match="the content is"),
        graph.store.writing(lease, f"sha256:{'0' * 64}") as writer,
    ):
        writer.write(b"other")
    assert list((graph.store.root / "blobs").iterdir()) == []
    assert list((graph.store.root / "staging").iterdir()) == []


def test_what_a_name_leads_to_stays_and_goes_with_it(graph: Graph) -> None:
    digest = tagged(graph, "kept", layer("a"), layer("b"))
    assert collect(graph.store).blobs == []
    assert graph.images.resolve("kept") == digest
    graph.store.untag("kept:latest")
    planned = collect(graph.store, dry_run=True)
    assert len(planned.blobs) == 4
    assert len(planned.layers) == 2
    assert graph.store.has(digest)
    assert collect(graph.store) == planned
    assert not any((graph.store.root / "layers").iterdir())
    assert list(verify(graph.store)) == []


def test_a_layer_is_unpacked_once_for_all_its_images(graph: Graph) -> None:
    tagged(graph, "one", layer("base"), layer("one"))
    base = next(
        iter(
            graph.layers.ensure(
                [graph.images.details(graph.images.resolve("one")).manifest.layers[0].digest]
            )
        )
    )
    inode = base.path.stat().st_ino
    tagged(graph, "two", layer("base"), layer("two"))
    assert len(list((graph.store.root / "layers").iterdir())) == 3
    assert base.path.stat().st_ino == inode
    graph.store.untag("one:latest")
    collect(graph.store)
    assert (base.path / "f").read_text() == "base"


def test_a_lease_keeps_an_image_without_a_name(graph: Graph) -> None:
    with graph.store.leasing() as lease:
        digest = image(graph, lease, layer("a"))
        assert collect(graph.store).blobs == []
    running = graph.store.lease(digest)
    assert collect(graph.store).blobs == []
    running.release()
    assert len(collect(graph.store).blobs) == 3


def test_a_dead_process_holds_nothing(graph: Graph, settings: Settings) -> None:
    digest = tagged(graph, "x", layer("a"))
    code = (
        "import sys, msgspec; from pathlib import Path; from sandboxd.drivers.graph.store import Store\n"
        f"store = Store(Path({str(settings.graph_path)!r})); store.lease({digest!r})\n"
        "store.staging('blob').write_bytes(b'half'); print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    graph.store.untag("x:latest")
    assert collect(graph.store).blobs == []
    assert len(list((graph.store.root / "staging").iterdir())) == 1
    other.kill()
    other.communicate()
    garbage = collect(graph.store)
    assert digest in garbage.blobs
    assert garbage.abandoned == 1
    assert list((graph.store.root / "staging").iterdir()) == []


def test_two_writers_of_one_image_leave_one(graph: Graph, settings: Settings) -> None:
    layers = [layer(str(number)) for number in range(3)]
    digests = []

    def write() -> None:
        with Graph(settings) as mine:
            digests.append(tagged(mine, "same", *layers))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 4
    assert len(set(digests)) == 1
    assert len(list((graph.store.root / "layers").iterdir())) == 3
    assert list(verify(graph.store)) == []
    assert collect(graph.store).abandoned == 0


def test_verify_finds_each_kind_of_damage(graph: Graph) -> None:
    digest = tagged(graph, "x", layer("a"))
    manifest = graph.images.details(digest).manifest
    blob = graph.store.blob(manifest.config.digest)
    blob.write_bytes(blob.read_bytes().replace(b"amd64", b"arm64"))
    assert [line.partition(":")[0] for line in verify(graph.store)] == ["blob sha256"]
    blob.unlink()
    graph.layers.path(manifest.layers[0].digest).rename(graph.store.root / "elsewhere")
    damages = list(verify(graph.store))
    assert len(damages) == 2
    assert "missing" in damages[0]


def test_a_manifest_of_other_layers_is_refused(graph: Graph) -> None:
    with graph.store.leasing() as lease:
        digest = image(graph, lease, layer("a"))
        blobs = graph.images.details(digest).manifest.layers
        config = Config(architecture="amd64", os="linux", rootfs=RootFs([f"sha256:{'1' * 64}"]))
        with pytest.raises(InvalidImage, match="the configuration says"):
            graph.images.assemble(lease, config, blobs)


def test_a_digest_may_be_shortened_while_it_is_clear(graph: Graph) -> None:
    digest = tagged(graph, "x", layer("a"))
    assert graph.images.resolve(digest[7:19]) == digest
    assert graph.images.resolve(digest) == digest
    with pytest.raises(UnknownImage):
        graph.images.resolve("y")


@pytest.mark.parametrize("name", ["", "UPPER", "a b", "../x", "x:", "a" * 300, "x\n"])
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(InvalidImage):
        full_name(name)


_NURSERY = """
import os, random, signal, sys
import msgspec
from sandboxd.drivers.graph.collection import collect
from sandboxd.drivers.graph.graph import Graph
from sandboxd.settings import Settings
from tests.drivers.graph.test_store import tagged, layer
from sandboxd.errors import UnknownImage
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
settings = msgspec.structs.replace(Settings(), state_dir=sys.argv[1])
for seed in sys.stdin:
    if os.fork():
        continue
    random.seed(int(seed))
    graph = Graph(settings)
    os.write(1, b"%d\\n" % os.getpid())
    while True:
        name = f"i{random.randrange(3)}"
        tagged(graph, name, *(layer(str(random.randrange(6))) for _ in range(2)))
        try:
            graph.store.untag(f"i{random.randrange(3)}:latest")
        except UnknownImage:
            pass
        collect(graph.store)
"""
"""Starts a writer for each line: one process imports all that they need, which takes longest."""


def test_kill_9_at_any_point_leaves_a_whole_store(settings: Settings) -> None:
    """Four writers that import, drop and collect are killed at random points, 52 in all."""
    chance = random.Random(1)
    nursery = subprocess.Popen(
        [sys.executable, "-c", _NURSERY, settings.state_dir],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert nursery.stdin is not None and nursery.stdout is not None
    try:
        for round_ in range(13):
            for which in range(4):
                nursery.stdin.write(b"%d\n" % (round_ * 4 + which))
            nursery.stdin.flush()
            writers = [os.pidfd_open(int(nursery.stdout.readline())) for _ in range(4)]
            for writer in writers:
                time.sleep(chance.random() * 0.15)
                signal.pidfd_send_signal(writer, signal.SIGKILL)
                assert select.select([writer], [], [], 20)[0]
                os.close(writer)
            with Graph(settings) as graph:
                assert list(verify(graph.store)) == []
                collect(graph.store)
                assert list((graph.store.root / "staging").iterdir()) == []
                for summary in graph.images.summaries():
                    for blob in graph.images.details(summary.digest).manifest.layers:
                        assert (graph.layers.path(blob.digest) / "f").is_file()
    finally:
        os.killpg(nursery.pid, signal.SIGKILL)
        nursery.communicate()


class StoreMachine(RuleBasedStateMachine):
    """Names, leases and collections in any order: what is held is there, what is not goes."""

    images = Bundle("images")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self._directory = tempfile.TemporaryDirectory()
        self._store = Store(Path(self._directory.name) / "graph")
        self._names: dict[str, str] = {}
        self._held: dict[int, str] = {}
        self._content: dict[str, set[str]] = {}
        self._there: set[str] = set()
        """Images that were not collected. A lease on one that was holds it once it is made again."""

    @rule(
        target=images, layers=st.lists(st.integers(0, 5), max_size=3), name=st.sampled_from("abc")
    )
    def make(self, layers: list[int], name: str) -> str:
        with self._store.leasing() as lease:
            blobs = [self._store.add(lease, b"layer %d" % number) for number in layers]
            config = self._store.add(lease, b"config")
            digest = self._store.add(lease, msgspec.json.encode(blobs))
            self._store.refer(digest, [config, *blobs])
            self._store.tag(f"{name}:latest", digest)
        self._names[f"{name}:latest"] = digest
        self._content[digest] = {digest, config, *blobs}
        self._there.add(digest)
        return digest

    @rule(digest=images, name=st.sampled_from("abc"))
    def tag(self, digest: str, name: str) -> None:
        try:
            self._store.tag(f"{name}:latest", digest)
        except UnknownImage:
            assert digest not in self._wanted()
        else:
            self._names[f"{name}:latest"] = digest

    @rule(name=st.sampled_from("abc"))
    def untag(self, name: str) -> None:
        if self._names.pop(f"{name}:latest", None):
            self._store.untag(f"{name}:latest")

    @rule(target=leases, digest=images)
    def start(self, digest: str) -> tuple[Lease, int]:
        lease = self._store.lease(digest)
        self._held[id(lease)] = digest
        return lease, id(lease)

    @rule(held=consumes(leases))
    def stop(self, held: tuple[Lease, int]) -> None:
        held[0].release()
        self._held.pop(held[1], None)

    @rule()
    def collect(self) -> None:
        collect(self._store)
        self._there &= self._roots()
        kept = {path.name for path in (self._store.root / "blobs").iterdir()}
        assert {digest.removeprefix("sha256:") for digest in self._wanted()} == kept

    @rule()
    def plan(self) -> None:
        before = sorted((self._store.root / "blobs").iterdir())
        collect(self._store, dry_run=True)
        assert sorted((self._store.root / "blobs").iterdir()) == before

    @invariant()
    def nothing_wanted_is_missing(self) -> None:
        assert all(self._store.blob(digest).is_file() for digest in self._wanted())
        assert list(verify(self._store)) == []

    def _wanted(self) -> set[str]:
        return set().union(*(self._content[digest] for digest in self._roots()))

    def _roots(self) -> set[str]:
        return {*self._names.values(), *self._held.values()} & self._there

    def teardown(self) -> None:
        self._store.close()
        self._directory.cleanup()


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip


def test_a_closed_store_leaves_no_holder(settings: Settings) -> None:
    graph = Graph(settings)
    graph.close()
    assert list((settings.graph_path / "holders").iterdir()) == []
    assert os.listdir(settings.graph_path / "staging") == []
