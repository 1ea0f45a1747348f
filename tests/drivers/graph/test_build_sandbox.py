"""The sandbox that images are made in: what its root may do, and what not."""

import msgspec
import pytest

from sandboxd.drivers.exec.native import NativeDriver
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.overlay import Rootfs
from tests.drivers.graph.archives import Item, archive, d
from tests.drivers.graph.test_rootfs import BUSYBOX, driver, rootfs, spec
from tests.drivers.graph.test_store import tagged
from tests.native.box import Ran, run

pytestmark = pytest.mark.root
__all__ = ["driver", "rootfs"]


def build(driver: NativeDriver, rootfs: Rootfs, script: str, user: int = 0) -> Ran:
    built = driver.build(msgspec.structs.replace(spec(rootfs.image("x")), build_user=user))
    try:
        return run(built.native, ["/bin/busybox", "sh", "-c", script])
    finally:
        driver.destroy(built)


@pytest.fixture
def image(graph: Graph, rootfs: Rootfs) -> None:
    items = [BUSYBOX, d("etc"), Item("etc/shadow", b"root", mode=0o600), d("home")]
    tagged(graph, "x", archive([*items, Item("home/own", b"x", uid=1000, mode=0o600)]))
    if rootfs.image("x").uid_base is None:
        pytest.skip("the file system of the store cannot be mapped")


@pytest.mark.usefixtures("image")
def test_root_makes_an_image(driver: NativeDriver, rootfs: Rootfs) -> None:
    script = (
        "cat /etc/shadow /home/own; mkdir /new && echo a > /new/f && chown 33:34 /new/f && "
        "stat -c %u:%g /new/f && echo b > /etc/shadow && cat /etc/shadow && rm /home/own && id -u"
    )
    assert build(driver, rootfs, script).out() == b"rootx33:34\nb\n0\n"


@pytest.mark.usefixtures("image")
def test_a_build_as_another_user_has_that_users_rights(
    driver: NativeDriver, rootfs: Rootfs
) -> None:
    ran = build(driver, rootfs, "id -u; cat /home/own; cat /etc/shadow", user=1000)
    assert ran.stdout == b"1000\nx"
    assert b"Permission denied" in ran.stderr


@pytest.mark.usefixtures("image")
@pytest.mark.parametrize(
    "deed",
    [
        "mount -t tmpfs none /home",
        "mknod /node c 1 3",
        "mknod /white c 0 0",
        "chroot / /bin/busybox true",
        "hostname other",
        "echo 1 > /proc/sys/kernel/sysrq",
        "echo 0 > /proc/sys/user/max_user_namespaces",
        "unshare -U true",
        "ifconfig lo down",
        "cat /proc/1/mem",
        "ls /proc/1/root/",
        "chown 65536:0 /etc",
    ],
)
def test_its_root_is_nobody_beyond_its_files(
    driver: NativeDriver, rootfs: Rootfs, deed: str
) -> None:
    ran = build(driver, rootfs, deed)
    assert ran.status != 0, deed
    assert ran.stderr


@pytest.mark.usefixtures("image")
def test_capabilities_are_seven(driver: NativeDriver, rootfs: Rootfs) -> None:
    shown = build(driver, rootfs, "grep Cap /proc/self/status").out().split()
    assert shown[1::2] == [b"0" * 16, *[b"00000000000000fb"] * 3, b"0" * 16]


@pytest.mark.usefixtures("image")
def test_init_outlives_what_its_root_sends_it(driver: NativeDriver, rootfs: Rootfs) -> None:
    """The job may become the very uid that init has."""
    script = "kill -9 1; kill -15 1; chown 65535 /home; echo alive"
    ran = build(driver, rootfs, script)
    assert ran.stdout == b"alive\n"
