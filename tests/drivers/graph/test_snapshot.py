"""A sandbox's changes become an image, whatever the job has put there."""

import os
import stat
from pathlib import Path

import pytest

from sandboxd.drivers.exec.base import Built
from sandboxd.drivers.exec.native import NativeDriver
from sandboxd.drivers.graph import tenancy
from sandboxd.drivers.graph.copies import Copies
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.overlay import Rootfs
from sandboxd.drivers.graph.snapshot import snapshot
from sandboxd.drivers.graph.unpack.parent import unpack
from sandboxd.drivers.graph.verify import verify
from sandboxd.errors import InvalidImage, UnknownImage
from sandboxd.settings import Settings
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


def test_the_directory_is_what_unpacking_its_archive_gives(
    graph: Graph, rootfs: Rootfs, driver: NativeDriver, base: str, tmp_path: Path
) -> None:
    """Two ways to the same layer: written directly, and by the child that takes strangers' archives."""
    script = (
        "cd /work; rm -r dir; mkdir dir; echo in > dir/in; rm old; ln -s dir/in s; echo x > a; ln a b; "
        "mkdir -p deep/$(printf 'd%.0s' $(seq 120))/x; ln -s $(printf 'l%.0s' $(seq 130)) long; "
        "chmod 6755 a; chmod 1777 dir; touch -d 1960-01-01 ancient; mkfifo pipe; "
        "dd if=/dev/zero of=big bs=1000 count=999 2>/dev/null; printf 'x' > \"$(printf '\\377')\"; "
        "mkdir .wh.d; echo x > .wh.f"
    )
    digest = after(graph, rootfs, driver, base, script)
    layer = graph.images.details(digest).manifest.layers[-1]
    again = tmp_path / "again"
    again.mkdir(mode=0o755)
    told = unpack(
        graph.store.blob(layer.digest), again, limits=graph.layers.limits, uid_base=graph.uid_base
    )
    record = graph.layers.get(layer.digest)
    assert record is not None and (record.diff_id, record.bytes) == (told.diff_id, told.bytes)
    assert shape(again) == shape(graph.layers.path(layer.digest))
    assert len(shape(again)) > 10


def shape(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything that a layer's directory is, by path."""
    found: dict[bytes, tuple[object, ...]] = {}
    for directory, directories, files in os.walk(os.fsencode(root)):
        for name in [*directories, *files]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            content: object = None
            if stat.S_ISREG(status.st_mode):
                content = Path(os.fsdecode(path)).read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            attributes = {
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
            }
            # A whiteout's time is nothing that anybody sees.
            time = None if stat.S_ISCHR(status.st_mode) else int(status.st_mtime)
            found[os.path.relpath(path, os.fsencode(root))] = (
                status.st_mode, status.st_uid, status.st_gid, status.st_nlink, time, content,
                attributes,
            )  # fmt: skip
    return found


def test_what_power_took_away_is_found_out_and_what_was_kept_stays(
    settings: Settings, tmp_path: Path
) -> None:
    """As after a cut: another boot, and of two unsettled images one whose bytes never arrived."""
    with Graph(settings) as graph, graph.store.leasing() as lease:
        kept = graph.store.add(lease, b"kept", durable=False)
        lost = graph.store.add(lease, b"lost", durable=False)
        with graph.store.database.write() as db:
            db.execute("UPDATE unsynced SET boot = 'before'")
        graph.store.blob(lost).write_bytes(b"")
        with Graph(settings) as after:
            assert (after.store.has(kept), after.store.has(lost)) == (True, False)
            assert after.store.database.rows("SELECT * FROM unsynced") == []
            assert list(verify(after.store)) == []


def test_settling_leaves_nothing_to_lose(graph: Graph) -> None:
    with graph.store.leasing() as lease:
        graph.store.add(lease, b"x", durable=False)
        assert len(graph.store.database.rows("SELECT * FROM unsynced")) == 1
        graph.store.settle()
        assert graph.store.database.rows("SELECT * FROM unsynced") == []


def test_a_living_sandbox_is_taken_and_goes_on(
    graph: Graph, rootfs: Rootfs, driver: NativeDriver, base: str
) -> None:
    copies = Copies(graph, rootfs, lambda tenant: 1 << 30)
    built = driver.build(spec(rootfs.image("base")))

    def taken(name: str) -> tuple[str, int]:
        image, scratch = built.spec.image, built.native.scratch
        return copies.snapshot("t", image, scratch, built.uid, name=name, note="n")

    try:
        assert taken("none") == (base, 0)
        run(built.native, ["/bin/busybox", "sh", "-c", "echo now > /work/now"]).out()
        digest, size = taken("mine")
        assert size > 0
        assert tenancy.resolve(graph.images, "t", "mine") == digest
        with pytest.raises(UnknownImage):
            tenancy.resolve(graph.images, "other", "mine")
        graph.store.settle()
    finally:
        driver.destroy(built)
    assert said(driver, rootfs.image(digest), "cat /work/now") == "now\n"
    assert list(verify(graph.store)) == []
