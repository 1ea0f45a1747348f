"""Sandboxes from images of the store, on the real driver: layers, owners, holds."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.drivers.exec.base import Built, Spec
from sandboxd.drivers.exec.cgroups import find
from sandboxd.drivers.exec.native import NativeDriver
from sandboxd.drivers.exec.uids import UidSlots
from sandboxd.drivers.graph.collection import collect
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.image import Image
from sandboxd.drivers.graph.overlay import Rootfs
from sandboxd.native import compile_seccomp
from sandboxd.settings import Settings
from tests.drivers.graph.archives import LINK, Item, archive, d
from tests.drivers.graph.test_store import tagged
from tests.native.box import run

pytestmark = pytest.mark.root
BUSYBOX = Item("bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755)


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[NativeDriver]:
    stage = tmp_path / "stage"
    stage.mkdir()
    cgroups = find(f"gr-{os.getpid()}-{secrets.token_hex(3)}")
    driver = NativeDriver(cgroups, UidSlots(0xD800_0000, 8, tmp_path / "locks"), stage)
    yield driver
    assert cgroups.sweep() == 0
    driver.close()
    cgroups.close()


@pytest.fixture
def rootfs(graph: Graph) -> Rootfs:
    return Rootfs(graph, Settings().graph.uid_base)


def spec(image: Image) -> Spec:
    policy = Settings().policy_path / "seccomp" / "default.json"
    return Spec(
        template="t", image=image, seccomp=compile_seccomp(policy.read_bytes()), apparmor="",
        cpus=1.0, memory=64 << 20, pids=16, disk=16 << 20,
    )  # fmt: skip


def said(driver: NativeDriver, image: Image, script: str) -> str:
    built = driver.build(spec(image))
    try:
        return run(built.native, ["/bin/busybox", "sh", "-c", script]).out().decode()
    finally:
        driver.destroy(built)


def test_upper_layers_cover_lower_ones(graph: Graph, rootfs: Rootfs, driver: NativeDriver) -> None:
    layers = [
        archive([BUSYBOX, Item("a", b"1"), Item("gone", b"1"), Item("d/old", b"1")]),
        archive([Item("a", b"2"), Item(".wh.gone"), d("d"), Item("d/.wh..wh..opq"), Item("d/new", b"2")]),
    ]  # fmt: skip
    tagged(graph, "x", *layers)
    image = rootfs.image("x")
    assert said(driver, image, "cat /a; ls /d; ls /gone 2>&1 || true").split("\n")[:2] == [
        "2new",
        "ls: /gone: No such file or directory",
    ]
    assert image.has("/a")
    assert image.has("/d/new")
    assert not image.has("/gone")
    assert not image.has("/d/old")


def test_a_hundred_layers_make_one_root(graph: Graph, rootfs: Rootfs, driver: NativeDriver) -> None:
    layers = [archive([BUSYBOX])] + [
        archive([Item(f"l{number}", b"x"), Item("same", b"%d" % number)]) for number in range(120)
    ]
    tagged(graph, "many", *layers)
    assert said(driver, rootfs.image("many"), "cat /same; ls / | grep -c ^l") == "119120\n"


def test_a_layer_that_an_image_has_twice_is_seen_where_it_is_higher(
    graph: Graph, rootfs: Rootfs, driver: NativeDriver
) -> None:
    """As of two snapshots one after the other whose changes are the same."""
    twice = archive([Item("a", b"twice"), Item(".wh.gone")])
    between = archive([Item("a", b"between"), Item("gone", b"x"), Item("only", b"between")])
    tagged(graph, "x", archive([BUSYBOX]), twice, between, twice)
    image = rootfs.image("x")
    assert said(driver, image, "cat /a /only; ls /gone 2>/dev/null || true") == "twicebetween"
    assert not image.has("/gone")


def test_owners_of_the_image_are_ids_of_the_sandbox(
    graph: Graph, rootfs: Rootfs, driver: NativeDriver
) -> None:
    items = [BUSYBOX, Item("jobs", b"x", uid=1000, mode=0o600), Item("roots", b"x", mode=0o600)]
    tagged(graph, "x", archive(items))
    if rootfs.image("x").uid_base is None:
        pytest.skip("the file system of the store cannot be mapped")
    script = "/bin/busybox cat /jobs; /bin/busybox cat /roots 2>&1; /bin/busybox stat -c %u /jobs"
    assert said(driver, rootfs.image("x"), script + " || true") == (
        "xcat: can't open '/roots': Permission denied\n1000\n"
    )


def test_a_job_cannot_change_its_image(graph: Graph, rootfs: Rootfs, driver: NativeDriver) -> None:
    """Landlock keeps it to its own places; without it the change would be its own copy."""
    items = [BUSYBOX, Item("open", b"original", mode=0o666), d("dir", 0o777)]
    tagged(graph, "x", archive(items))
    image = rootfs.image("x")
    script = "(echo changed > /open) 2>/dev/null; (echo x > /dir/new) 2>/dev/null; echo x > /work/f"
    assert said(driver, image, script) == ""
    assert said(driver, image, "cat /open; ls /dir /work") == "original/dir:\n\n/work:\n"
    assert (image.lower / "open").read_bytes() == b"original"
    assert list((image.lower / "dir").iterdir()) == []


@pytest.mark.parametrize("name", ["proc", "dev", "work", "tmp"])
def test_a_link_where_a_mount_goes_moves_nothing(
    graph: Graph, rootfs: Rootfs, driver: NativeDriver, name: str
) -> None:
    tagged(graph, "x", archive([BUSYBOX, d("trap", 0o777), Item(name, kind=LINK, to="/trap")]))
    shown = said(
        driver, rootfs.image("x"), f"ls /trap; test -d /{name} && test ! -L /{name} && echo ok"
    )
    assert shown == "ok\n"


def test_a_set_id_program_gives_nothing(graph: Graph, rootfs: Rootfs, driver: NativeDriver) -> None:
    """Even if a bit had come through: the layer's files are changed on the host for this test."""
    digest = tagged(graph, "x", archive([BUSYBOX]))
    layer = graph.layers.path(graph.images.details(digest).manifest.layers[0].digest)
    (layer / "bin/busybox").chmod(0o4755)
    assert said(driver, rootfs.image("x"), "id -u") == "1000\n"


def test_what_a_sandbox_is_on_stays_while_it_lives(
    graph: Graph, rootfs: Rootfs, driver: NativeDriver
) -> None:
    digest = tagged(graph, "x", archive([BUSYBOX]))
    image = rootfs.image("x")
    built: Built = driver.build(spec(image))
    assert image.hold is not None
    image.hold.drop()
    graph.store.untag("x:latest")
    assert collect(graph.store).blobs == []
    assert run(built.native, ["/bin/busybox", "echo", "here"]).out() == b"here\n"
    driver.destroy(built)
    assert digest in collect(graph.store).blobs
    assert not image.lower.exists()
