"""Makes an image of what a sandbox has changed: its overlay's upper directory becomes a layer.

The caller has frozen the sandbox, so nothing moves. The tree is the job's all the same: it is walked by
descriptors, one name at a time and never through a link; pipes, sockets and devices are passed over; what
is read becomes an archive, which then goes the way of every stranger's archive (`unpack`), by the same
rules. /dev and /proc, where only mounts are, are left out.
"""

import os
import stat
import tarfile
from datetime import UTC, datetime
from typing import IO, BinaryIO, cast

import msgspec

from sandboxd.drivers.graph.images import Images
from sandboxd.drivers.graph.importing import TarSink
from sandboxd.drivers.graph.store import Lease
from sandboxd.errors import InvalidImage
from sandboxd.model.image import OCI_LAYER, Descriptor, History

_DEPTH_MAX = 128
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MOUNT_POINTS = ("dev", "proc")
_MADE_BY_INIT = ("work", "tmp")
_IDS = 65_536


def snapshot(images: Images, lease: Lease, base: str, scratch: int, uid: int, note: str) -> str:
    """The digest of `base` with the changes of a frozen sandbox on top; `base` if there are none.

    `scratch` is the sandbox's scratch file system, `uid` the first of its host ids. `note` goes into
    the image's history. Blocks. Raises InvalidImage for a tree too deep or too large to be a layer.
    """
    layer = seal(images, lease, scratch, uid)
    return _on_top(images, lease, base, layer, note) if layer else base


def seal(images: Images, lease: Lease, scratch: int, uid: int) -> str:
    """The digest of the archive of what a sandbox has changed; empty if there is nothing. As above."""
    upper = os.open("upper", _OPEN | os.O_DIRECTORY, dir_fd=scratch)
    try:
        if _untouched(upper):
            return ""
        with images.store.writing(lease) as writer:
            sink = cast("BinaryIO", TarSink(writer))
            with tarfile.open(mode="w|", fileobj=sink, format=tarfile.PAX_FORMAT) as archive:
                _Walk(archive, uid, images.layers.limits.bytes).directory(upper, "", 0)
    finally:
        os.close(upper)
    return writer.digest


def _untouched(upper: int) -> bool:
    """Whether there is only what sandbox-init itself makes."""
    for name in os.listdir(upper):
        if name in _MADE_BY_INIT:
            fd = os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=upper)
            try:
                with os.scandir(fd) as entries:
                    if any(entries):
                        return False
            finally:
                os.close(fd)
        elif name not in _MOUNT_POINTS:
            return False
    return True


class _Walk:
    def __init__(self, archive: tarfile.TarFile, uid: int, limit: int) -> None:
        self._archive, self._uid, self._left = archive, uid, limit
        self._linked: dict[tuple[int, int], str] = {}

    def directory(self, fd: int, path: str, depth: int) -> None:
        if depth > _DEPTH_MAX:
            raise InvalidImage(f"a tree of more than {_DEPTH_MAX} levels cannot become a layer")
        if path and _opaque(fd):
            self._archive.addfile(self._info(f"{path}/.wh..wh..opq", os.fstat(fd), size=0))
        for name in sorted(os.listdir(fd)):
            if not path and name in _MOUNT_POINTS:
                continue
            inner = f"{path}/{name}" if path else name
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                self._archive.addfile(self._info(inner, status, tarfile.DIRTYPE))
                child = os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=fd)
                try:
                    self.directory(child, inner, depth + 1)
                finally:
                    os.close(child)
            else:
                self._leaf(fd, name, inner, path, status)

    def _leaf(self, fd: int, name: str, inner: str, path: str, status: os.stat_result) -> None:
        if name.startswith(".wh."):
            return  # to a layer it would mean something else than a file
        if stat.S_ISLNK(status.st_mode):
            info = self._info(inner, status, tarfile.SYMTYPE)
            info.linkname = os.readlink(name, dir_fd=fd)
            self._archive.addfile(info)
        elif stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            whiteout = f"{path}/.wh.{name}" if path else f".wh.{name}"
            self._archive.addfile(self._info(whiteout, status, size=0))
        elif stat.S_ISREG(status.st_mode):
            self._file(fd, name, inner)

    def _file(self, fd: int, name: str, inner: str) -> None:
        file = os.open(name, _OPEN, dir_fd=fd)
        with open(file, "rb", buffering=0) as content:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                return
            first = self._linked.setdefault((status.st_dev, status.st_ino), inner)
            if first != inner:
                info = self._info(inner, status, tarfile.LNKTYPE)
                info.linkname = first
                self._archive.addfile(info)
                return
            self._left -= status.st_size
            if self._left < 0:
                raise InvalidImage("more bytes than a layer may have")
            info = self._info(inner, status, size=status.st_size)
            info.pax_headers = {
                f"SCHILY.xattr.{name}": os.getxattr(file, name).decode("utf-8", "surrogateescape")
                for name in os.listxattr(file)
                if name.startswith("user.")
            }
            self._archive.addfile(info, cast("IO[bytes]", content))

    def _info(
        self, name: str, status: os.stat_result, kind: bytes = tarfile.REGTYPE, size: int = 0
    ) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mode = kind, size, stat.S_IMODE(status.st_mode)
        info.uid, info.gid = self._inside(status.st_uid), self._inside(status.st_gid)
        info.mtime = int(status.st_mtime)
        return info

    def _inside(self, host: int) -> int:
        """The id as the sandbox has it; what is not of its range is its init's work, and root's."""
        return host - self._uid if 0 <= host - self._uid < _IDS else 0


def _opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def _on_top(images: Images, lease: Lease, base: str, digest: str, note: str) -> str:
    below = images.details(base)
    (layer,) = images.layers.ensure([digest])
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    config = msgspec.structs.replace(
        below.config,
        created=now,
        rootfs=msgspec.structs.replace(
            below.config.rootfs, diff_ids=[*below.config.rootfs.diff_ids, layer.diff_id]
        ),
        history=[*(below.config.history or []), History(created=now, created_by=note)],
    )
    top = Descriptor(OCI_LAYER, digest, images.store.size(digest))
    return images.assemble(lease, config, [*below.manifest.layers, top])
