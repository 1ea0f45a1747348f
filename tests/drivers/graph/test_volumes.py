"""Volumes and data in real sandboxes: what stays, what the cap is, and whose files they are."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from sandboxd.drivers.exec.base import Mount
from sandboxd.drivers.exec.native import NativeDriver
from sandboxd.drivers.graph.collection import collect
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.overlay import Rootfs
from sandboxd.drivers.graph.verify import verify
from sandboxd.drivers.graph.volumes import DataSource, Volumes
from sandboxd.errors import Conflict, InvalidRequest, NotFound, QuotaExceeded
from tests.drivers.graph.archives import Item, archive, d
from tests.drivers.graph.test_rootfs import BUSYBOX, driver, rootfs, spec
from tests.drivers.graph.test_store import tagged
from tests.native.box import Ran, run

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/dev/loop-control").exists(), reason="needs loop devices"),
]
__all__ = ["driver", "rootfs"]
MIB = 1 << 20


@pytest.fixture
def volumes(graph: Graph, driver: NativeDriver) -> Volumes:
    return Volumes(graph.store, graph.uid_base, lambda uid: driver.owner_map(graph.uid_base, uid))


class Box:
    def __init__(self, driver: NativeDriver, rootfs: Rootfs) -> None:
        self.driver, self.image = driver, rootfs.image("x")

    def run(self, script: str, *mounts: Mount) -> Ran:
        built = self.driver.build(msgspec.structs.replace(spec(self.image), mounts=mounts))
        try:
            return run(built.native, ["/bin/busybox", "sh", "-c", script], file_size=1 << 30)
        finally:
            self.driver.destroy(built)


@pytest.fixture
def box(graph: Graph, driver: NativeDriver, rootfs: Rootfs) -> Box:
    tagged(graph, "x", archive([BUSYBOX, Item("trap", b"")]))
    return Box(driver, rootfs)


def make(volumes: Volumes, name: str = "v", size: int = 16 * MIB) -> None:
    volumes.create("t", name, size, tenant_max=1 << 30)


def mount(volumes: Volumes, target: str = "/data", *, read_only: bool = False) -> Mount:
    return Mount(target, volumes.source(volumes.get("t", "v"), read_only=read_only))


def test_what_one_sandbox_writes_the_next_one_reads(volumes: Volumes, box: Box) -> None:
    make(volumes)
    script = "cd /data; echo kept > f; mkdir d; ln -s /etc/passwd d/l; id -u"
    assert box.run(script, mount(volumes)).out() == b"1000\n"
    shown = box.run("cd /mnt/deep; cat f; stat -c %u:%g f; ls d", mount(volumes, "/mnt/deep"))
    assert shown.out() == b"kept\n1000:1000\nl\n"


def test_sandboxes_share_a_volume_at_once(volumes: Volumes, box: Box) -> None:
    make(volumes)
    first = box.driver.build(msgspec.structs.replace(spec(box.image), mounts=(mount(volumes),)))
    try:
        assert box.run("echo other > /data/f", mount(volumes)).out() == b""
        assert run(first.native, ["/bin/busybox", "cat", "/data/f"]).out() == b"other\n"
    finally:
        box.driver.destroy(first)


def test_read_only_is_so_by_its_mount(volumes: Volumes, box: Box) -> None:
    make(volumes)
    box.run("echo a > /data/f", mount(volumes)).out()
    ran = box.run("cat /data/f; echo b > /data/f", mount(volumes, read_only=True))
    assert ran.stdout == b"a\n"
    assert b"denied" in ran.stderr or b"Read-only" in ran.stderr


def test_the_size_is_the_cap(volumes: Volumes, box: Box) -> None:
    make(volumes)
    script = "dd if=/dev/zero of=/data/big bs=1M count=64 2>&1; wc -c < /data/big"
    ran = box.run(script, mount(volumes))
    assert b"No space left" in ran.stdout
    written = int(ran.stdout.split()[-1])
    assert 8 * MIB < written < 16 * MIB
    path = next((Path(volumes._store.root) / "volumes").iterdir())
    assert path.stat().st_size == 16 * MIB


def test_set_id_bits_and_devices_do_nothing(volumes: Volumes, box: Box) -> None:
    make(volumes)
    script = (
        "cp /bin/busybox /data/; chmod 6755 /data/busybox; /data/busybox id -u; "
        "grep ' /data ' /proc/mounts; "
        "mknod /data/n c 1 3"
    )
    ran = box.run(script, mount(volumes))
    assert ran.stdout.startswith(b"1000\n")
    assert b"nosuid" in ran.stdout and b"nodev" in ran.stdout
    assert ran.status != 0


def test_a_target_is_where_it_is_said_to_be(volumes: Volumes, box: Box) -> None:
    make(volumes)
    ran = box.run("echo x > /work/in/f && ls /work/in /data", mount(volumes, "/work/in"))
    assert b"/work/in:\nf\n" in ran.stdout


def test_nothing_of_it_has_a_path_on_the_host(volumes: Volumes, box: Box) -> None:
    make(volumes)
    before = Path("/proc/self/mountinfo").read_text()
    built = box.driver.build(msgspec.structs.replace(spec(box.image), mounts=(mount(volumes),)))
    assert Path("/proc/self/mountinfo").read_text() == before
    box.driver.destroy(built)


def test_one_in_use_cannot_be_removed_and_a_removed_one_is_gone(
    volumes: Volumes, box: Box, graph: Graph
) -> None:
    make(volumes)
    built = box.driver.build(msgspec.structs.replace(spec(box.image), mounts=(mount(volumes),)))
    with pytest.raises(Conflict):
        volumes.remove("t", "v")
    box.driver.destroy(built)
    volumes.remove("t", "v")
    with pytest.raises(NotFound):
        volumes.get("t", "v")
    assert os.listdir(graph.store.root / "volumes") == []


def test_names_sizes_tenants_and_quotas(volumes: Volumes) -> None:
    make(volumes)
    with pytest.raises(Conflict):
        make(volumes)
    with pytest.raises(InvalidRequest):
        make(volumes, "../v")
    with pytest.raises(InvalidRequest):
        make(volumes, "small", 1)
    with pytest.raises(QuotaExceeded):
        volumes.create("t", "w", 16 * MIB, tenant_max=20 * MIB)
    with pytest.raises(NotFound):
        volumes.get("other", "v")
    with pytest.raises(NotFound):
        volumes.remove("other", "v")
    volumes.create("other", "v", 16 * MIB, tenant_max=20 * MIB)
    assert [volume.name for volume in volumes.list("t")] == ["v"]


def test_a_killed_maker_leaves_nothing_and_a_volume_without_a_row_goes(
    volumes: Volumes, graph: Graph
) -> None:
    make(volumes)
    (graph.store.root / "volumes" / ("0" * 32)).write_bytes(b"x")
    assert collect(graph.store).abandoned == 1
    assert len(os.listdir(graph.store.root / "volumes")) == 1
    assert list(verify(graph.store)) == []
    next((graph.store.root / "volumes").iterdir()).unlink()
    assert "volume" in " ".join(verify(graph.store))


def test_another_process_cannot_have_it_meanwhile(volumes: Volumes, box: Box) -> None:
    make(volumes)
    path = next((Path(volumes._store.root) / "volumes").iterdir())
    script = (
        "import fcntl,sys; f=open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print('have', flush=True);"
        "sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None and other.stdout.readline() == b"have\n"
    with pytest.raises(Conflict):
        box.driver.build(msgspec.structs.replace(spec(box.image), mounts=(mount(volumes),)))
    other.communicate()
    assert box.run("echo x > /data/f", mount(volumes)).out() == b""


def test_data_is_a_layer_that_nobody_can_change(graph: Graph, volumes: Volumes, box: Box) -> None:
    content = [d("dir", 0o777), Item("dir/f", b"data", uid=1000, mode=0o666)]
    digest = tagged(graph, "artefact", archive(content))
    (layer,) = graph.images.details(digest).manifest.layers
    place = graph.layers.path(layer.digest)
    held: list[int] = []
    source = DataSource(
        place, lambda uid: box.driver.owner_map(graph.uid_base, uid),
        take=lambda: held.append(1), drop=lambda: held.append(-1),
    )  # fmt: skip
    script = (
        "cat /srv/a/dir/f; stat -c %u /srv/a/dir/f; (echo x > /srv/a/dir/f) 2>/dev/null || echo no"
    )
    assert box.run(script, Mount("/srv/a", source)).out() == b"data1000\nno\n"
    assert (place / "dir" / "f").read_bytes() == b"data"
    assert held == [1, -1]


def test_what_is_used_at_once_again_is_the_same_file_system(volumes: Volumes, box: Box) -> None:
    """The former mount may still be on its way out: two devices of one file would be two caches."""
    make(volumes)
    for number in range(12):
        shown = box.run(
            f"cat /data/* 2>/dev/null; echo {number} > /data/{number:02}", mount(volumes)
        )
        assert shown.stdout.split() == [b"%d" % earlier for earlier in range(number)]
