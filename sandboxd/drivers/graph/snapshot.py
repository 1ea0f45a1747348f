"""Makes an image of what a sandbox has changed: its overlay's upper directory becomes a layer.

The caller has frozen the sandbox, so nothing moves. How the tree is read and written down: `sealing`.
/dev and /proc, where only mounts are, are left out. The result is on the disk when `Store.settle` has
been called, which the caller does when nobody waits.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from sandboxd.drivers.graph.images import Images
from sandboxd.drivers.graph.layers import Layer
from sandboxd.drivers.graph.sealing import IDS, Seal
from sandboxd.drivers.graph.store import BlobWriter, Lease, remove
from sandboxd.errors import DriverFault
from sandboxd.model.image import OCI_LAYER, Descriptor, History

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MOUNT_POINTS = ("dev", "proc")
_Made = dict[str, "_Made | None"]
_SUDO: _Made = {"local": {"bin": {"sudo": None, "su": None}}}
_MADE_BY_INIT: _Made = {
    "work": {}, "tmp": {}, "home": {"user": {}}, "root": {}, "opt": {}, "usr": _SUDO,
}  # fmt: skip
"""Directories and what is in them; None is a link."""


def snapshot(images: Images, lease: Lease, base: str, scratch: int, uid: int, note: str) -> str:
    """The digest of `base` with the changes of a frozen sandbox on top; `base` if there are none.

    `scratch` is the sandbox's scratch file system, `uid` the first of its host ids. `note` goes into
    the image's history. Blocks. Raises InvalidImage for a tree too deep or too large to be a layer.
    """
    store = images.store
    with _sealed(images, scratch, uid) as sealed:
        if sealed is None:
            return base
        images.layers.ensure(each.digest for each in images.details(base).manifest.layers)
        with store.database.write(durable=False):
            sealed.place(lease)
            return _on_top(images, lease, base, sealed.layer, note)


def seal(images: Images, lease: Lease, scratch: int, uid: int) -> str:
    """The digest of the archive of what a sandbox has changed; empty if there is nothing. As above."""
    with _sealed(images, scratch, uid) as sealed:
        if sealed is None:
            return ""
        with images.store.database.write(durable=False):
            sealed.place(lease)
        return sealed.layer.digest


class _Sealed:
    """A layer on the disk which the store does not know of yet."""

    def __init__(self, images: Images, blob: Path, directory: Path, layer: Layer) -> None:
        self._images, self._blob, self._directory, self.layer = images, blob, directory, layer

    def place(self, lease: Lease) -> None:
        store = self._images.store
        store.place(self._blob, self.layer.digest, self.layer.bytes, lease, durable=False)
        self._images.layers.place(self._directory, self.layer, durable=False)


@contextmanager
def _sealed(images: Images, scratch: int, uid: int) -> Iterator[_Sealed | None]:
    store, layers = images.store, images.layers
    upper = os.open("upper", _OPEN | os.O_DIRECTORY, dir_fd=scratch)
    blob, directory = store.staging("blob"), store.staging("layer")
    try:
        if _untouched(upper, uid, _MADE_BY_INIT):
            yield None
            return
        directory.mkdir()
        directory.chmod(0o755)
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fchown(root, layers.uid_base, layers.uid_base)
            with BlobWriter(blob) as writer:
                seal = Seal(writer, root, uid=uid, uid_base=layers.uid_base, limits=layers.limits)
                digest = seal.write(upper)
        except OSError as error:
            raise DriverFault("graph", "take a snapshot", str(error)) from error
        finally:
            os.close(root)
        path = layers.path(digest)
        yield _Sealed(
            images, blob, directory, Layer(digest, digest, seal.entries, seal.bytes, path)
        )
    finally:
        os.close(upper)
        blob.unlink(missing_ok=True)
        if directory.exists():
            remove(directory)


def _untouched(directory: int, uid: int, made: _Made) -> bool:
    """Whether there is only what sandbox-init itself makes: directories of the job's and of root's that
    they find at their start, and links and places of mounts, which nobody inside could own."""
    for name in os.listdir(directory):
        if made is _MADE_BY_INIT and name in _MOUNT_POINTS:
            continue
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        inside = uid <= status.st_uid < uid + IDS
        within = made.get(name, {})
        if within is None and not inside and stat.S_ISLNK(status.st_mode):
            continue
        if within is None or not stat.S_ISDIR(status.st_mode) or (inside and name not in made):
            return False
        fd = os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=directory)
        try:
            if not _untouched(fd, uid, within):
                return False
        finally:
            os.close(fd)
    return True


def _on_top(images: Images, lease: Lease, base: str, layer: Layer, note: str) -> str:
    below = images.details(base)
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    config = msgspec.structs.replace(
        below.config,
        created=now,
        rootfs=msgspec.structs.replace(
            below.config.rootfs, diff_ids=[*below.config.rootfs.diff_ids, layer.diff_id]
        ),
        history=[*(below.config.history or []), History(created=now, created_by=note)],
    )
    top = Descriptor(OCI_LAYER, layer.digest, layer.bytes)
    return images.assemble(lease, config, [*below.manifest.layers, top], durable=False)
