"""What the host and the file service of a session say to each other, as bytes; see `proto.h`.

The service runs as the job: everything that it answers is read as if the job had written it.
"""

import errno as errnos
import os
import stat
import struct
from collections.abc import Sequence
from enum import IntEnum

from msgspec import Struct

from sandboxd.errors import NativeFault
from sandboxd.native.core import ABI, ffi, lib

MESSAGE_MAX = 65_536
PUT_MAX = 48 << 10
"""Bytes of a file that may come in its request (`Op.PUT`)."""

_REQUEST = struct.Struct("<BBHIIIIIQQ")
_ANSWER = struct.Struct("<BBHIiIQ")
_ENTRY = struct.Struct("<IIIIQq")
_LENGTH = struct.Struct("<I")
assert (_REQUEST.size, _ANSWER.size, _ENTRY.size) == (40, 24, 32)
_ASK, _TOLD = 16, 17
_FILE_SYSTEMS = frozenset({0x794C7630, 0x01021994, 0xEF53, 0x58465342, 0x9123683E, 0xF2F52010})
"""overlay, tmpfs, ext4, xfs, btrfs, f2fs: those whose regular files are nothing but bytes. Reading
one of /proc would be done with the host's rights."""

_buffer = ffi.new("uint8_t[]", MESSAGE_MAX)
_fd = ffi.new("int *")


class Op(IntEnum):
    STAT = 1
    MKDIR = 2
    MOVE = 3
    CHMOD = 4
    UNLINK = 5
    OPEN = 6
    PUT = 7
    LIST = 8
    REMOVE = 9
    WRITE = 10
    WATCH = 11


FOLLOW, KEEP, PARENTS, SET_MODE, APPEND, AT, RECURSIVE, XATTRS = (1 << bit for bit in range(8))
XATTR = 100
"""As `change` of an entry: it is an attribute of the entry before, `name` and, in `target`, its value."""


class FileEntry(Struct, frozen=True):
    name: bytes
    target: bytes
    """Of a symbolic link."""
    mode: int
    """With the type, as stat(2) has it."""
    uid: int
    gid: int
    size: int
    modified: int
    """Nanoseconds since the epoch."""
    change: int = 0
    """Of a watch: enum sbx_change."""


class Filed(Struct, frozen=True):
    """One answer. `fd`, where there is one, is a regular file open for reading and the receiver's."""

    id: int
    errno: int
    more: bool
    count: int
    entries: list[FileEntry]
    fd: int


def send_request(
    socket: int,
    number: int,
    op: Op,
    *paths: bytes,
    flags: int = 0,
    mode: int = 0,
    offset: int = 0,
    length: int = 0,
    content: bytes | None = None,
    fds: Sequence[int] = (),
) -> None:
    """Ask the service. Raises ValueError for a path with a NUL, OSError if it is gone or busy."""
    message = encode(
        number, op, *paths, flags=flags, mode=mode, offset=offset, length=length, content=content
    )
    if lib.sbx_send(socket, message, len(message), list(fds), len(fds)) != 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno))


def encode(
    number: int,
    op: Op,
    *paths: bytes,
    flags: int = 0,
    mode: int = 0,
    offset: int = 0,
    length: int = 0,
    content: bytes | None = None,
) -> bytes:
    parts = [_REQUEST.pack(_ASK, ABI, 0, number, op, flags, mode, 0, offset, length)]
    for path in paths:
        if b"\0" in path:
            raise ValueError("a path holds a NUL")
        parts.append(_LENGTH.pack(len(path) + 1) + path + b"\0")
    if content is not None:
        parts.append(_LENGTH.pack(len(content)) + content)
    return b"".join(parts)


def receive_answer(socket: int) -> Filed | None:
    """The next answer; None if there is none yet. Raises NativeFault for anything else than one, and
    EOFError at the end."""
    size = lib.sbx_message(socket, _buffer, MESSAGE_MAX, _fd)
    if size < 0 and ffi.errno == errnos.ECONNRESET:
        # It ended without having read all of ours. That is said once, and before what it had sent.
        size = lib.sbx_message(socket, _buffer, MESSAGE_MAX, _fd)
    if size == 0:
        raise EOFError
    if size < 0:
        if ffi.errno == errnos.EAGAIN:
            return None
        raise NativeFault("receive", int(ffi.errno))
    fd = int(_fd[0])
    answer = decode(bytes(ffi.buffer(_buffer, size)), fd)
    if answer is None or answer.fd != fd:
        if fd >= 0:
            os.close(fd)
        if answer is None:
            raise NativeFault("receive", errnos.EPROTO)
    return answer


def decode(data: bytes, fd: int) -> Filed | None:
    """None unless it is what our service sends."""
    if len(data) < _ANSWER.size:
        return None
    kind, version, _, number, error, more, count = _ANSWER.unpack_from(data)
    if kind != _TOLD or version != ABI or error < 0 or more > 1 or (error and more):
        return None
    entries = _entries(data, _ANSWER.size)
    if entries is None or (fd >= 0 and (error or more or len(entries) != 1 or not _plain(fd))):
        return None
    return Filed(number, error, bool(more), count, entries, fd)


def _plain(fd: int) -> bool:
    """Whether it is bytes on a disk, and may be read without waiting."""
    return stat.S_ISREG(os.fstat(fd).st_mode) and lib.sbx_fs_type(fd) in _FILE_SYSTEMS


def _entries(data: bytes, at: int) -> list[FileEntry] | None:
    entries = []
    while at < len(data):
        if len(data) - at < _ENTRY.size:
            return None
        mode, uid, gid, change, size, modified = _ENTRY.unpack_from(data, at)
        at += _ENTRY.size
        fields = []
        for _ in range(2):
            if len(data) - at < _LENGTH.size:
                return None
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size
            if length > min(4096, len(data) - at):
                return None
            fields.append(data[at : at + length])
            at += length
        name, target = fields
        if b"\0" in name:
            return None
        entries.append(FileEntry(name, target, mode, uid, gid, size, modified, change))
    return entries
