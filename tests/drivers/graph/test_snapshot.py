"""A sandbox's changes become an image, whatever the job has put there."""

import os
import stat
from pathlib import Path

import pytest

from sandboxd.drivers.exec.base import Built
from sandboxd.drivers.exec.native import NativeDriver
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.overlay import Rootfs
from sandboxd.drivers.graph.snapshot import snapshot
from sandboxd.errors import InvalidImage
from tests.drivers.graph.archives import Item, archive, d
from tests.drivers.graph.test_rootfs import BUSYBOX, driver, rootfs, said, spec
from tests.drivers.graph.test_store import tagged
from tests.native.box import run

pytestmark = pytest.mark.root
__all__ = ["driver", "rootfs"]


@pytest.fixture
def base(graph: Graph) -> str:
    items = [BUSYBOX, d("work", 0o777), Item("work/old", b"old", uid=1000), d("work/dir", 0o777)]
    return tagged(graph, "base", archive([*items, Item("work/dir/old", b"old", uid=1000)]))


def sealed(graph: Graph, built: Built, base: str, name: str = "snap") -> str:
    built.group.freeze(True)
    try:
        with graph.store.leasing() as lease:
            digest = snapshot(
                graph.images, lease, base, built.native.scratch, built.uid, "snapshot"
            )
            graph.store.tag(f"{name}:latest", digest)
    finally:
        built.group.freeze(False)
    return digest


def after(graph: Graph, rootfs: Rootfs, driver: NativeDriver, base: str, script: str) -> str:
    """The snapshot's digest, once a job has done this in a sandbox of `base`."""
    built = driver.build(spec(rootfs.image("base")))
    try:
        if script:
            run(built.native, ["/bin/busybox", "sh", "-c", script]).out()
        return sealed(graph, built, base)
    finally:
        driver.destroy(built)


def test_changes_are_there_in_the_next_sandbox(
    graph: Graph, rootfs: Rootfs, driver: NativeDriver, base: str
) -> None:
    script = (
        "cd /work; echo new > new; rm old; rm -r dir; mkdir dir; echo in > dir/in; "
        "ln new hard; ln -s new soft; chmod 4755 new"
    )
    digest = after(graph, rootfs, driver, base, script)
    assert digest != base
    shown = said(driver, rootfs.image("snap"), "cd /work; ls; cat hard; ls dir; stat -c %u:%a new")
    assert shown == "dir\nhard\nnew\nsoft\nnew\nin\n1000:755\n"
    assert len(graph.images.details(digest).manifest.layers) == 2


def test_an_untouched_sandbox_is_its_base(
    graph: Graph, rootfs: Rootfs, driver: NativeDriver, base: str
) -> None:
    assert after(graph, rootfs, driver, base, "") == base


def test_special_files_and_whiteout_names_are_passed_over(
    graph: Graph, rootfs: Rootfs, driver: NativeDriver, base: str
) -> None:
    script = (
        "cd /work; mkfifo pipe; echo x > .wh.old; mkdir -p a; echo x > a/.wh..wh..opq; echo y > a/y"
    )
    after(graph, rootfs, driver, base, script)
    assert said(driver, rootfs.image("snap"), "cd /work; ls -A . a") == ".:\na\ndir\nold\n\na:\ny\n"


def test_links_to_the_host_bring_nothing_of_it(
    graph: Graph, rootfs: Rootfs, driver: NativeDriver, base: str, tmp_path: Path
) -> None:
    (tmp_path / "canary").write_text("secret")
    script = f"cd /work; ln -s {tmp_path} out; ln -s {tmp_path}/canary file; ln -s /proc/1/root up"
    digest = after(graph, rootfs, driver, base, script)
    layer = graph.layers.path(graph.images.details(digest).manifest.layers[-1].digest)
    for name in ("out", "file", "up"):
        assert stat.S_ISLNK((layer / "work" / name).lstat().st_mode)
    assert "secret" not in graph.store.blob(
        graph.images.details(digest).manifest.layers[-1].digest
    ).read_bytes().decode("latin-1")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("cd /work; for i in $(seq 200); do mkdir d; cd d; done", "levels"),
        ("/bin/busybox truncate -s 1G /work/hole", "more bytes"),
    ],
)
def test_what_cannot_be_a_layer_is_refused_and_leaves_nothing(
    graph: Graph, rootfs: Rootfs, driver: NativeDriver, base: str, script: str, why: str
) -> None:
    built = driver.build(spec(rootfs.image("base")))
    try:
        order = ["/bin/busybox", "sh", "-c", script]
        run(built.native, order, file_size=1 << 40).out()
        with pytest.raises(InvalidImage, match=why):
            sealed(graph, built, base)
    finally:
        driver.destroy(built)
    assert os.listdir(graph.store.root / "staging") == []
    assert [tag.name for tag in graph.store.tags()] == ["base:latest"]
