"""Writes a layer's entries below one directory, by these rules.

Refused, naming the entry: `..` in a name, names of more than 4,096 bytes or 256 parts, parts of more
than 255; a path that leads through a link or a file of the same layer; a hard link to anything but a
file of the same layer; a file in place of a directory that has entries; sparse and unknown types; more
entries or bytes than the limits.

Normalised: a leading `/`, empty parts and `.` are dropped; set-user-id and set-group-id bits are
cleared; of extended attributes only `user.*` stay, without `user.overlay.*`; device nodes are left
out (nodev everywhere, and a 0:0 one would pass for a whiteout); owners above 65,535 become 65,534;
times are put between 1970 and 2242; a directory that only names imply is root's, 0755; of duplicate
entries the last stays.

Whiteouts: `.wh.name` hides `name` of the layers below and never what this layer itself has, wherever
in the archive it stands; `.wh..wh..opq` hides all that its directory has below. Other `.wh..wh.*`
names are aufs's bookkeeping and left out. Symbolic links are written as they are and never followed.
"""

import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from sandboxd.drivers.graph.unpack.tar import (
    DEVICE,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMLINK,
    Entry,
    printable,
)

Copy = Callable[[int, int], None]
"""Write so many bytes of content to a descriptor."""

_WHITEOUT, _AUFS, _OPAQUE = b".wh.", b".wh..wh.", b".wh..wh..opq"
_NAME_MAX, _PART_MAX, _DEPTH_MAX = 4096, 255, 256
_ID_MAX, _NOBODY = 65_535, 65_534
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Path = tuple[bytes, ...]


class Refused(ValueError):
    """An entry breaks a rule; the text names both."""


class Limits(NamedTuple):
    entries: int
    bytes: int
    """Of the uncompressed archive, content and headers."""


def parts_of(name: bytes) -> Path:
    """A name's parts below the layer's root. Raises Refused."""
    if len(name) > _NAME_MAX:
        raise Refused(f"{printable(name)}: a name of {len(name)} bytes")
    parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise Refused(f"{printable(name)}: '..' in a name")
    if len(parts) > _DEPTH_MAX or any(len(part) > _PART_MAX for part in parts):
        raise Refused(f"{printable(name)}: too deep, or a part is too long")
    if any(part.startswith(_WHITEOUT) for part in parts[:-1]):
        raise Refused(f"{printable(name)}: a whiteout is not a directory")
    return parts


class Tree:
    """Owns the descriptors that it opens below `root`, which stays the caller's."""

    def __init__(self, root: int, limits: Limits) -> None:
        self._root, self._limits = root, limits
        self._path: list[bytes] = []
        self._fds: list[int] = []
        self._times: dict[Path, float] = {}
        self._whiteouts: dict[Path, None] = {}
        self._opaque: dict[Path, None] = {}
        self.entries = 0
        self.left_out = 0

    def add(self, entry: Entry, copy: Copy) -> None:
        """Write one entry; `copy` gives its content. Raises Refused, or OSError of the disk."""
        self.entries += 1
        if self.entries > self._limits.entries:
            raise Refused(f"{printable(entry.name)}: more than {self._limits.entries} entries")
        parts = parts_of(entry.name)
        try:
            if parts and parts[-1].startswith(_WHITEOUT):
                self._note_whiteout(parts, entry)
            elif entry.kind is DIRECTORY:
                self._directory(parts, entry)
            elif not parts:
                raise Refused(f"{printable(entry.name)}: the root is a directory")
            elif entry.kind is DEVICE:
                self.left_out += 1
            else:
                self._leaf(parts, entry, copy)
        except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
            raise Refused(f"{printable(entry.name)}: {error.strerror} on its path") from None

    def finish(self) -> list[bytes]:
        """Write whiteouts and directories' times. Returns the opaque directories' paths."""
        parts: Path = ()
        try:
            for parts in self._whiteouts:
                self._white_out(parts)
            for parts, time in reversed(self._times.items()):
                os.utime(self._enter(parts), ns=_ns(time))
        except NotADirectoryError:
            raise Refused(f"{printable(b'/'.join(parts))}: replaced while it was written") from None
        return [b"/".join(parts) for parts in self._opaque]

    def close(self) -> None:
        """Close its descriptors; it can be used no more."""
        self._leave(0)

    def _note_whiteout(self, parts: Path, entry: Entry) -> None:
        name = parts[-1]
        if entry.size:
            raise Refused(f"{printable(entry.name)}: a whiteout with content")
        self._enter(parts[:-1])
        if name == _OPAQUE:
            self._opaque[parts[:-1]] = None
        elif not name.startswith(_AUFS):
            hidden = name.removeprefix(_WHITEOUT)
            if hidden in (b"", b".", b".."):
                raise Refused(f"{printable(entry.name)}: a whiteout of nothing")
            self._whiteouts[(*parts[:-1], hidden)] = None

    def _white_out(self, parts: Path) -> None:
        parent, name = self._enter(parts[:-1]), parts[-1]
        found = _look(parent, name)
        if found is None:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
        elif stat.S_ISDIR(found.st_mode):
            self._opaque[parts] = None

    def _directory(self, parts: Path, entry: Entry) -> None:
        if parts:
            parent = self._enter(parts[:-1])
            found = _look(parent, parts[-1])
            if found is not None and not stat.S_ISDIR(found.st_mode):
                os.unlink(parts[-1], dir_fd=parent)
        fd = self._enter(parts)
        self._own(fd, entry)
        os.fchmod(fd, entry.mode & 0o1777)
        self._set_xattrs(fd, entry)
        self._times[parts] = entry.mtime

    def _leaf(self, parts: Path, entry: Entry, copy: Copy) -> None:
        parent, name = self._enter(parts[:-1]), parts[-1]
        if entry.kind is HARD_LINK:
            self._hard_link(parts, entry)
            return
        make = {REGULAR: self._file, SYMLINK: self._symlink, FIFO: self._fifo}[entry.kind]
        try:
            make(parent, name, entry, copy)
        except FileExistsError:
            self._clear(parts, entry)
            make(self._enter(parts[:-1]), name, entry, copy)

    def _file(self, parent: int, name: bytes, entry: Entry, copy: Copy) -> None:
        fd = os.open(name, _NEW_FILE, entry.mode & 0o1777, dir_fd=parent)
        try:
            if entry.size:
                copy(entry.size, fd)
            self._own(fd, entry)
            self._set_xattrs(fd, entry)
            os.utime(fd, ns=_ns(entry.mtime))
        finally:
            os.close(fd)

    def _symlink(self, parent: int, name: bytes, entry: Entry, _: Copy) -> None:
        if not 0 < len(entry.link) < _NAME_MAX:
            raise Refused(f"{printable(entry.name)}: a link of {len(entry.link)} bytes")
        os.symlink(entry.link, name, dir_fd=parent)
        self._own_link(parent, name, entry)

    def _fifo(self, parent: int, name: bytes, entry: Entry, _: Copy) -> None:
        os.mkfifo(name, entry.mode & 0o777, dir_fd=parent)
        self._own_link(parent, name, entry)

    def _hard_link(self, parts: Path, entry: Entry) -> None:
        source = parts_of(entry.link)
        if source == parts:
            raise Refused(f"{printable(entry.name)}: a hard link to itself")
        # Its own descriptors: entering the other directory would close this one's.
        other = Tree(self._root, self._limits)
        try:
            there = other._enter(source[:-1], make=False) if source else -1
            found = _look(there, source[-1]) if source else None
            if found is None or stat.S_ISDIR(found.st_mode) or stat.S_ISCHR(found.st_mode):
                raise FileNotFoundError
            if _look(self._enter(parts[:-1]), parts[-1]) is not None:
                self._clear(parts, entry)
            os.link(
                source[-1], parts[-1], src_dir_fd=there,
                dst_dir_fd=self._enter(parts[:-1]), follow_symlinks=False,
            )  # fmt: skip
        except (FileNotFoundError, NotADirectoryError):
            raise Refused(
                f"{printable(entry.name)}: a hard link to {printable(entry.link)}, "
                "which is no file of this layer"
            ) from None
        finally:
            other._leave(0)

    def _clear(self, parts: Path, entry: Entry) -> None:
        """Remove what an earlier entry of the same name made."""
        parent = self._enter(parts[:-1])
        found = _look(parent, parts[-1])
        if found is None or not stat.S_ISDIR(found.st_mode):
            os.unlink(parts[-1], dir_fd=parent)
            return
        try:
            os.rmdir(parts[-1], dir_fd=parent)
        except OSError:
            raise Refused(
                f"{printable(entry.name)}: would replace a directory that has entries"
            ) from None
        self._times.pop(parts, None)
        self._opaque.pop(parts, None)

    def _own(self, fd: int, entry: Entry) -> None:
        if entry.uid or entry.gid:
            os.fchown(fd, _id(entry.uid), _id(entry.gid))

    def _own_link(self, parent: int, name: bytes, entry: Entry) -> None:
        if entry.uid or entry.gid:
            os.chown(name, _id(entry.uid), _id(entry.gid), dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=_ns(entry.mtime), dir_fd=parent, follow_symlinks=False)

    def _set_xattrs(self, fd: int, entry: Entry) -> None:
        for name, value in entry.xattrs.items():
            if name.startswith(b"user.") and not name.startswith(b"user.overlay."):
                try:
                    os.setxattr(fd, name, value)
                except OSError as error:
                    raise Refused(
                        f"{printable(entry.name)}: attribute {printable(name)}: {error.strerror}"
                    ) from None

    def _enter(self, parts: Path, *, make: bool = True) -> int:
        """A descriptor of the directory, made if need be, whose life is up to the next call."""
        common = 0
        for mine, theirs in zip(self._path, parts, strict=False):
            if mine != theirs:
                break
            common += 1
        self._leave(common)
        for part in parts[common:]:
            parent = self._fds[-1] if self._fds else self._root
            try:
                fd = os.open(part, _OPEN_DIRECTORY, dir_fd=parent)
            except FileNotFoundError:
                if not make:
                    raise
                os.mkdir(part, 0o755, dir_fd=parent)
                fd = os.open(part, _OPEN_DIRECTORY, dir_fd=parent)
            except OSError as error:  # a link: ELOOP or ENOTDIR, by kernel
                raise NotADirectoryError(error.errno, "a link or a file") from None
            self._path.append(part)
            self._fds.append(fd)
        return self._fds[-1] if self._fds else self._root

    def _leave(self, depth: int) -> None:
        del self._path[depth:]
        while len(self._fds) > depth:
            os.close(self._fds.pop())


def _look(parent: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _id(number: int) -> int:
    return number if number <= _ID_MAX else _NOBODY


def _ns(time: float) -> tuple[int, int]:
    return (int(time * 1e9), int(time * 1e9))
