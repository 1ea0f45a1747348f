"""Makes an image of what a sandbox has changed: its overlay's upper directory becomes a layer.

The caller has frozen the sandbox, so nothing moves. How the tree is read and written down: `sealing`.
/dev and /proc, where only mounts are, are left out. The result is on the disk when `Store.settle` has
been called, which the caller does when nobody waits.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from sandboxd.drivers.graph.images import Images
from sandboxd.drivers.graph.layers import Layer
from sandboxd.drivers.graph.sealing import Seal
from sandboxd.drivers.graph.store import BlobWriter, Lease, remove
from sandboxd.errors import DriverFault
from sandboxd.model.image import OCI_LAYER, Descriptor, History

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MOUNT_POINTS = ("dev", "proc")
_MADE_BY_INIT = ("work", "tmp")


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
        # One transaction, and so one wait for the disk, for all that follows.
        with store.database.write():
            sealed.place(lease)
            return _on_top(images, lease, base, sealed.layer, note)


def seal(images: Images, lease: Lease, scratch: int, uid: int) -> str:
    """The digest of the archive of what a sandbox has changed; empty if there is nothing. As above."""
    with _sealed(images, scratch, uid) as sealed:
        if sealed is None:
            return ""
        with images.store.database.write():
            sealed.place(lease)
        return sealed.layer.digest


class _Sealed:
    """A layer on the disk which the store does not know of yet."""

    def __init__(self, images: Images, blob: Path, directory: Path, layer: Layer) -> None:
        self._images, self._blob, self._directory, self.layer = images, blob, directory, layer

    def place(self, lease: Lease) -> None:
        store = self._images.store
        store.place(self._blob, self.layer.digest, self.layer.bytes, lease, durable=False)
        self._images.layers.place(self._directory, self.layer)


@contextmanager
def _sealed(images: Images, scratch: int, uid: int) -> Iterator[_Sealed | None]:
    store, layers = images.store, images.layers
    upper = os.open("upper", _OPEN | os.O_DIRECTORY, dir_fd=scratch)
    blob, directory = store.staging("blob"), store.staging("layer")
    try:
        if _untouched(upper):
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
