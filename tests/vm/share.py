"""The part of the host that the guest sees, read-only, served by virtiofsd.

Run as a program (`python -m tests.vm.share TREE SOCKET_FD SOURCE...`) it enters mount, network and
IPC namespaces of its own, binds each SOURCE into an empty TREE at its own path, makes the whole
read-only and becomes virtiofsd. Read-only is set on the mount, out of the guest's reach: root in
the guest cannot change a byte of the host, and the tree vanishes with the process.
"""

import ctypes
import os
import resource
import shutil
import signal
import struct
import sys
from pathlib import Path

from tests.vm.fault import LaneFault

SHARED = ("/usr", "/etc", "/opt")
LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
EMPTY = ("dev", "home", "media", "mnt", "proc", "root", "run", "srv", "sys", "tmp", "var")
GUEST_FILES = "/.vm"

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWNET = 0x20000, 0x8000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = -100, 0x8000, 0x1
SYS_MOUNT_SETATTR = 442
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def main(tree: Path, socket: int, sources: list[Path]) -> None:
    """Build the tree and become the server."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")
    _check(_libc.unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC), "unshare")
    _mount("none", Path("/"), None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", tree, "tmpfs", 0)
    for name in EMPTY:
        (tree / name).mkdir()
    for name in LINKS:
        link = Path("/", name)
        if link.is_symlink():
            (tree / name).symlink_to(link.readlink())
    for source in sources:
        # SOURCE may be FROM:AT; a bind is not recursive, so nothing mounted below comes along.
        origin, _, at = str(source).partition(":")
        target = tree / (at or origin).lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        _mount(origin, target, None, MS_BIND)
    _make_read_only(tree)
    most = descriptors()
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = locate()
    options = f"source={tree},cache=always,sandbox=chroot"
    os.set_inheritable(socket, True)
    os.execv(server, [server, "-f", f"--fd={socket}", "--rlimit-nofile=0", "-o", options])


def descriptors() -> int:
    """How many the server may hold: it keeps one for each file that the guest remembers."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def locate() -> str:
    """Where Debian puts virtiofsd: qemu-system-common in 12, a package of its own later."""
    for directory in ("/usr/lib/qemu", "/usr/libexec"):
        found = shutil.which("virtiofsd", path=directory)
        if found is not None:
            return found
    raise LaneFault("virtiofsd is missing; install qemu-system-x86")


def _mount(source: str, target: Path, kind: str | None, flags: int) -> None:
    encoded = None if kind is None else kind.encode()
    result = _libc.mount(source.encode(), os.fsencode(target), encoded, flags, None)
    _check(result, f"mount {target}")


def _make_read_only(tree: Path) -> None:
    attributes = struct.pack("=4Q", MOUNT_ATTR_RDONLY, 0, 0, 0)
    result = _libc.syscall(
        SYS_MOUNT_SETATTR, AT_FDCWD, os.fsencode(tree), AT_RECURSIVE, attributes, len(attributes)
    )
    _check(result, "mount_setattr")


def _check(result: int, stage: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{stage}: {os.strerror(code)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [Path(text) for text in sys.argv[3:]])
