"""Detached mounts of directories and block devices, seen as a sandbox may see them."""

import ctypes
import os
import struct

from sandboxd.drivers.mount_api import NODEV, NOSUID, RDONLY, call, mounted
from sandboxd.errors import DriverFault

_DRIVER = "graph"
_OPEN_TREE, _MOUNT_SETATTR = 428, 442
_CLONE, _EMPTY_PATH = 1, 0x1000
_IDMAP = 0x10_0000
_PRIVATE = 1 << 18


def directory(path: str, *, idmap: int | None) -> int:
    """A read-only mount of a directory, its owners mapped by a user namespace. Raises DriverFault."""
    flags = _CLONE | os.O_CLOEXEC
    tree = call(_DRIVER, "open_tree", _OPEN_TREE, -100, os.fsencode(path), flags)
    return _guarded(tree, read_only=True, idmap=idmap)


def block_device(
    path: str, kind: str, *, options: dict[str, str], read_only: bool, idmap: int
) -> int:
    """A mount of the file system on a block device, beside others of it. Raises DriverFault."""
    mount = mounted(_DRIVER, kind, {"source": path, **options}, NOSUID | NODEV)
    return _guarded(mount, read_only=read_only, idmap=idmap)


def _guarded(mount: int, *, read_only: bool, idmap: int | None) -> int:
    wanted = NOSUID | NODEV | (RDONLY if read_only else 0) | (0 if idmap is None else _IDMAP)
    attributes = struct.pack("<4Q", wanted, 0, _PRIVATE, 0 if idmap is None else idmap)
    try:
        call(
            _DRIVER, "mount_setattr", _MOUNT_SETATTR, mount, b"", _EMPTY_PATH, attributes,
            ctypes.c_size_t(len(attributes)),
        )  # fmt: skip
    except DriverFault:
        os.close(mount)
        raise
    return mount
