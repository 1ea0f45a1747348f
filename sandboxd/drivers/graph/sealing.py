"""Writes a frozen tree down as a layer: its archive and its directory at once, in one pass.

The tree is a job's, so it is walked by descriptors, one name at a time and never through a link; pipes,
sockets and devices are passed over. Nothing of it is parsed, which is what the unpacking child is for:
the directory is written here, by the same rules (head of `unpack/tree`), and a test holds the two to the
same result.
"""

import os
import stat
import struct
import tarfile

from sandboxd.drivers.graph.behind import WriteBehind
from sandboxd.drivers.graph.store import BlobWriter
from sandboxd.drivers.graph.unpack.tree import Limits
from sandboxd.errors import InvalidImage

_DEPTH_MAX, _NAME_MAX = 128, 4096
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MOUNT_POINTS = (b"dev", b"proc")
IDS, _TIME_MAX = 65_536, 1 << 33
_BLOCK = 512
_USTAR = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")


class Seal:
    """`finish` gives what a `layers` row needs."""

    def __init__(
        self, blob: BlobWriter, directory: int, *, uid: int, uid_base: int, limits: Limits
    ) -> None:
        """The archive goes to `blob`, the tree below `directory`; `uid` is the first of the
        sandbox's host ids, `uid_base` the first owner on disk."""
        self._blob = WriteBehind(blob)
        self._root, self._uid, self._base = directory, uid, uid_base
        self._limits = limits
        self._linked: dict[tuple[int, int], bytes] = {}
        self.entries = self.bytes = 0

    def write(self, upper: int) -> str:
        """All of the tree at `upper`. Returns the archive's digest. Raises InvalidImage for one too
        deep or too large to be a layer, OSError of the disk."""
        try:
            self._directory(upper, self._root, b"", 0)
            self._put(bytes(2 * _BLOCK))
            return self._blob.finish()
        finally:
            self._blob.close()

    def _directory(self, source: int, target: int, path: bytes, depth: int) -> None:
        if depth > _DEPTH_MAX:
            raise InvalidImage(f"a tree of more than {_DEPTH_MAX} levels cannot become a layer")
        if path and _opaque(source):
            self._entry(path + b"/.wh..wh..opq", os.fstat(source), b"0")
            os.setxattr(target, "trusted.overlay.opaque", b"y")
        for text in sorted(os.listdir(source)):
            name = os.fsencode(text)
            if not path and name in _MOUNT_POINTS:
                continue
            inner = path + b"/" + name if path else name
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                self._inner(source, target, name, inner, status, depth)
            else:
                self._leaf(source, target, name, inner, path, status)

    def _inner(
        self, source: int, target: int, name: bytes, path: bytes, status: os.stat_result, depth: int
    ) -> None:
        if name.startswith(b".wh."):
            return  # to a layer it would mean something else than a directory
        self._entry(path, status, b"5")
        os.mkdir(name, 0o700, dir_fd=target)
        below = os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=source)
        mine = os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=target)
        try:
            self._directory(below, mine, path, depth + 1)
            self._own(mine, status)
        finally:
            os.close(mine)
            os.close(below)

    def _leaf(
        self, source: int, target: int, name: bytes, path: bytes, parent: bytes,
        status: os.stat_result,
    ) -> None:  # fmt: skip
        if name.startswith(b".wh."):
            return
        if stat.S_ISLNK(status.st_mode):
            link = os.readlink(name, dir_fd=source)
            self._entry(path, status, b"2", link=link)
            os.symlink(link, name, dir_fd=target)
            ids = (
                self._base + self._inside(status.st_uid),
                self._base + self._inside(status.st_gid),
            )
            os.chown(name, *ids, dir_fd=target, follow_symlinks=False)
            os.utime(name, ns=_times(status), dir_fd=target, follow_symlinks=False)
        elif stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            whiteout = parent + b"/.wh." + name if parent else b".wh." + name
            self._entry(whiteout, status, b"0")
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=target)
            os.chown(name, self._base, self._base, dir_fd=target, follow_symlinks=False)
        elif stat.S_ISREG(status.st_mode):
            self._file(source, target, name, path)

    def _file(self, source: int, target: int, name: bytes, path: bytes) -> None:
        file = os.open(name, _OPEN, dir_fd=source)
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                return
            if status.st_nlink > 1:
                first = self._linked.setdefault((status.st_dev, status.st_ino), path)
                if first != path:
                    self._entry(path, status, b"1", link=first)
                    os.link(first, name, src_dir_fd=self._root, dst_dir_fd=target)
                    return
            xattrs = {
                text: os.getxattr(file, text)
                for text in os.listxattr(file)
                if text.startswith("user.") and not text.startswith("user.overlay.")
            }
            self._entry(path, status, b"0", size=status.st_size, xattrs=xattrs)
            mine = os.open(name, _NEW, 0o600, dir_fd=target)
            try:
                self._content(file, mine, status.st_size)
                self._own(mine, status)
                for text, value in xattrs.items():
                    os.setxattr(mine, text, value)
                os.utime(mine, ns=_times(status))
            finally:
                os.close(mine)
        finally:
            os.close(file)

    def _content(self, file: int, mine: int, size: int) -> None:
        left = size
        while left:
            room = self._blob.room()[:left]
            done = os.readv(file, [room])
            if not done:
                raise InvalidImage("a file that became shorter while it was read")
            _write(mine, room[:done])
            self._blob.wrote(done)
            left -= done
        self.bytes += size
        self._put(bytes(-size % _BLOCK))

    def _own(self, fd: int, status: os.stat_result) -> None:
        os.fchown(
            fd, self._base + self._inside(status.st_uid), self._base + self._inside(status.st_gid)
        )
        os.fchmod(fd, stat.S_IMODE(status.st_mode) & 0o1777)
        if stat.S_ISDIR(status.st_mode):
            os.utime(fd, ns=_times(status))

    def _inside(self, host: int) -> int:
        """The id as the sandbox has it; what is not of its range is its init's work, and root's."""
        return host - self._uid if 0 <= host - self._uid < IDS else 0

    def _entry(
        self, path: bytes, status: os.stat_result, kind: bytes, *, size: int = 0,
        link: bytes = b"", xattrs: dict[str, bytes] | None = None,
    ) -> None:  # fmt: skip
        self.entries += 1
        if self.entries > self._limits.entries:
            raise InvalidImage(f"more than {self._limits.entries} files cannot become a layer")
        if len(path) > _NAME_MAX:
            raise InvalidImage(f"a name of {len(path)} bytes cannot become part of a layer")
        if self.bytes + size > self._limits.bytes:
            raise InvalidImage("more bytes than a layer may have")
        mode, time = stat.S_IMODE(status.st_mode) & 0o1777, _times(status)[0] // 10**9
        ids = self._inside(status.st_uid), self._inside(status.st_gid)
        if len(path) <= 100 and len(link) <= 100 and size < 1 << 33 and not xattrs:
            self._put(_header(path, mode, ids, size, time, kind, link))
            return
        info = tarfile.TarInfo(os.fsdecode(path))
        info.type, info.size, info.mode, info.mtime = kind, size, mode, time
        info.uid, info.gid = ids
        info.linkname = os.fsdecode(link)
        info.pax_headers = {
            f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape")
            for name, value in (xattrs or {}).items()
        }
        self._put(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))

    def _put(self, data: bytes) -> None:
        self.bytes += len(data)
        self._blob.write(data)


def _header(
    path: bytes, mode: int, ids: tuple[int, int], size: int, time: int, kind: bytes, link: bytes
) -> bytes:
    def packed(checksum: bytes) -> bytes:
        return _USTAR.pack(
            path, b"%07o" % mode, b"%07o" % ids[0], b"%07o" % ids[1], b"%011o" % size,
            b"%011o" % time, checksum, kind, link, b"ustar\x0000", b"", b"", b"", b"", b"",
        )  # fmt: skip

    return packed(b"%06o\0 " % sum(packed(b" " * 8)))


def _write(fd: int, data: memoryview) -> None:
    rest = data
    while rest:
        rest = rest[os.write(fd, rest) :]


def _times(status: os.stat_result) -> tuple[int, int]:
    """Whole seconds, as archives have them."""
    time = min(max(int(status.st_mtime), 0), _TIME_MAX) * 10**9
    return time, time


def _opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False
