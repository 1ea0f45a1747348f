"""The machine itself: its kernel, what it offers to a sandbox, and that it is shut off."""

import ctypes
import errno
import os
import subprocess
from pathlib import Path

import pytest

NOBODY = 65534
SYS_LANDLOCK_CREATE_RULESET = 444
LANDLOCK_CREATE_RULESET_VERSION = 1
RESTRICTION = Path("/proc/sys/kernel/unprivileged_userns_clone")
UNSHARE = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
UNSHARE += ["unshare", "--user", "--map-root-user", "id", "-u"]
OVERLAY = """
set -e
cd "$1"
mkdir lower
echo below > lower/file
mkdir t
mount -t tmpfs tmpfs t
mkdir t/upper t/work merged
mount -t overlay -o lowerdir=lower,upperdir=t/upper,workdir=t/work overlay merged
cat merged/file
echo above > merged/file
cat lower/file merged/file
"""


def test_kernel_is_the_cloud_kernel_of_debian() -> None:
    assert os.uname().release.endswith("-cloud-amd64")


def test_landlock_is_there() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    print(f"Landlock ABI {version}")
    assert version >= 2


@pytest.mark.parametrize(
    "namespaces", [["--mount"], ["--user", "--map-root-user", "--mount"]], ids=["root", "userns"]
)
def test_overlay_on_tmpfs_leaves_the_lower_layer_alone(
    namespaces: list[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        ["unshare", *namespaces, "sh", "-c", OVERLAY, "sh", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "below\nbelow\nabove\n", done.stderr


def test_anyone_may_make_a_user_namespace_until_the_switch_is_off() -> None:
    def attempt() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(UNSHARE, capture_output=True, text=True, check=False)

    before = RESTRICTION.read_text()
    try:
        RESTRICTION.write_text("1")
        allowed = attempt()
        RESTRICTION.write_text("0")
        refused = attempt()
    finally:
        RESTRICTION.write_text(before)
    assert allowed.stdout == "0\n", allowed.stderr
    assert refused.returncode != 0
    assert "Operation not permitted" in refused.stderr


def test_machine_has_no_network_device() -> None:
    assert os.listdir("/sys/class/net") == ["lo"]
    assert Path("/sys/class/net/lo/carrier").read_text() == "1\n"


def test_modules_load_on_demand() -> None:
    subprocess.run(["ip", "link", "add", "vm0", "type", "veth", "peer", "vm1"], check=True)
    subprocess.run(["ip", "link", "delete", "vm0"], check=True)
    assert Path("/sys/module/veth").is_dir()


def test_root_here_cannot_write_a_file_of_the_host(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "virtiofs", "root", str(tmp_path)], check=True)
    try:
        with pytest.raises(OSError) as failure:
            (tmp_path / "etc/vm-lane-was-here").write_text("")
        assert failure.value.errno == errno.EROFS
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_project_tree_takes_writes(tmp_path: Path) -> None:
    probe = Path(__file__).with_name("vm-lane-probe")
    probe.write_text("only here")
    assert probe.read_text() == "only here"
    probe.unlink()
