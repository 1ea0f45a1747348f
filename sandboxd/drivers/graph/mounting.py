"""Detached mounts, by the new mount API: file systems that have no path anywhere on the host.

A detached mount is a descriptor. It is gone when the descriptor and the sandboxes that took it are, so
that a node that is killed leaves none.
"""

import ctypes
import os
import struct

from sandboxd.errors import DriverFault

_libc = ctypes.CDLL(None, use_errno=True)
_OPEN_TREE, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 428, 430, 431, 432, 442
_CLONE, _EMPTY_PATH, _CLOEXEC = 1, 0x1000, 1
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_RDONLY, _NOSUID, _NODEV, _IDMAP = 1, 2, 4, 0x10_0000
_PRIVATE = 1 << 18


def directory(path: str, *, idmap: int | None) -> int:
    """A read-only mount of a directory, its owners mapped by a user namespace. Raises DriverFault."""
    tree = _call("open_tree", _OPEN_TREE, -100, os.fsencode(path), _CLONE | os.O_CLOEXEC)
    return _guarded(tree, read_only=True, idmap=idmap)


def block_device(
    path: str, kind: str, *, options: dict[str, str], read_only: bool, idmap: int
) -> int:
    """A mount of the file system on a block device, beside others of it. Raises DriverFault."""
    context = _call("fsopen", _FSOPEN, kind.encode(), _CLOEXEC)
    try:
        for name, value in {"source": path, **options}.items():
            _call("fsconfig", _FSCONFIG, context, _SET_STRING, name.encode(), value.encode(), 0)
        _call("mount " + path, _FSCONFIG, context, _CREATE, None, None, 0)
        mount = _call("fsmount", _FSMOUNT, context, _CLOEXEC, _NOSUID | _NODEV)
    finally:
        os.close(context)
    return _guarded(mount, read_only=read_only, idmap=idmap)


def _guarded(mount: int, *, read_only: bool, idmap: int | None) -> int:
    wanted = _NOSUID | _NODEV | (_RDONLY if read_only else 0) | (0 if idmap is None else _IDMAP)
    attributes = struct.pack("<4Q", wanted, 0, _PRIVATE, 0 if idmap is None else idmap)
    try:
        _call(
            "mount_setattr", _MOUNT_SETATTR, mount, b"", _EMPTY_PATH, attributes,
            ctypes.c_size_t(len(attributes)),
        )  # fmt: skip
    except DriverFault:
        os.close(mount)
        raise
    return mount


def _call(what: str, number: int, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        raise DriverFault("graph", what, os.strerror(ctypes.get_errno()))
    return result
