"""System calls of the graph driver that Python's `os` does not have."""

import ctypes
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_SYS_OPEN_TREE, _SYS_OPENAT2, _SYS_MOUNT_SETATTR = 428, 437, 442
_OPEN_TREE_CLONE, _AT_EMPTY_PATH, _MOUNT_ATTR_IDMAP = 1, 0x1000, 0x10_0000
_IN_CLOSE_WRITE = 8
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 1, 2, 4, 8


def open_beneath(directory: int, path: bytes, flags: int) -> int:
    """Open a path below `directory` that leads through no link and no other mount. Raises OSError."""
    how = struct.pack(
        "<QQQ", flags | os.O_CLOEXEC, 0, _NO_XDEV | _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH
    )
    fd: int = _libc.syscall(
        _SYS_OPENAT2, directory, ctypes.c_char_p(path), how, ctypes.c_size_t(len(how))
    )
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), os.fsdecode(path))
    return fd


def sync_filesystem(fd: int) -> None:
    """Write out everything of the file system that `fd` is on. Raises OSError."""
    if _libc.syncfs(fd) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def watch_writes(path: str) -> int:
    """A non-blocking descriptor that is readable whenever somebody has written the file."""
    fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0 or _libc.inotify_add_watch(fd, os.fsencode(path), _IN_CLOSE_WRITE) < 0:
        error = ctypes.get_errno()
        if fd >= 0:
            os.close(fd)
        raise OSError(error, os.strerror(error), path)
    return fd


def can_map_owners(directory: str, namespace: int) -> bool:
    """Whether the file system of `directory` lets a mount map its owners by a user namespace."""
    tree: int = _libc.syscall(
        _SYS_OPEN_TREE, -100, os.fsencode(directory), _OPEN_TREE_CLONE | os.O_CLOEXEC
    )
    if tree < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), directory)
    attributes = struct.pack("<4Q", _MOUNT_ATTR_IDMAP, 0, 0, namespace)
    try:
        done: int = _libc.syscall(
            _SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, attributes,
            ctypes.c_size_t(len(attributes)),
        )  # fmt: skip
        return done == 0
    finally:
        os.close(tree)
