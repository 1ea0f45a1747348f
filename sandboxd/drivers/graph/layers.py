"""Unpacked layers: one directory per blob, made once, shared by every image that has it.

A directory is named by the digest of the blob that it came from, which the store has verified, and not
by the digest of the uncompressed archive, which only the unpacking child has seen: a layer that takes
the child over can spoil itself and no other.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct

from sandboxd.drivers.graph import syscalls
from sandboxd.drivers.graph.store import Store, hex_of, remove, sync_directory
from sandboxd.drivers.graph.unpack.parent import Limits, unpack

_AT_ONCE = max(1, min(4, len(os.sched_getaffinity(0))))


class Layer(Struct, frozen=True):
    digest: str
    """Of its blob."""
    diff_id: str
    """Of the uncompressed archive."""
    entries: int
    bytes: int
    """Of the uncompressed archive."""
    path: Path


class Layers:
    def __init__(self, store: Store, limits: Limits, uid_base: int) -> None:
        """Owners on disk are `uid_base` and the 65,535 ids above it."""
        self._store, self.limits, self.uid_base = store, limits, uid_base

    def path(self, digest: str) -> Path:
        return self._store.root / "layers" / hex_of(digest)

    def get(self, digest: str) -> Layer | None:
        rows = self._store.database.rows(
            "SELECT digest, diff_id, entries, bytes FROM layers WHERE digest = ?", digest
        )
        if not rows:
            return None
        name, diff_id, entries, size = rows[0]
        return Layer(str(name), str(diff_id), int(str(entries)), int(str(size)), self.path(digest))

    def ensure(self, digests: Iterable[str]) -> list[Layer]:
        """The layers of these blobs, unpacked where they are not yet; a lease must keep the blobs.

        Raises InvalidImage for an archive that is refused, DriverFault where the host failed; then
        nothing of it is left.
        """
        wanted = list(digests)
        made = {digest: self.get(digest) for digest in wanted}
        missing = [digest for digest, layer in made.items() if layer is None]
        if missing:  # threads only then: a transaction of this one would keep them waiting
            with ThreadPoolExecutor(_AT_ONCE, "unpack") as threads:
                made |= zip(missing, threads.map(self._ensure, missing), strict=True)
        return [layer for digest in wanted if (layer := made[digest]) is not None]

    def _ensure(self, digest: str) -> Layer:
        known = self.get(digest)
        if known is not None:
            return known
        staging = self._store.staging("layer")
        staging.mkdir()
        staging.chmod(0o755)  # unless the archive says otherwise; `staging` itself is ours alone
        try:
            unpacked = unpack(
                self._store.blob(digest), staging, limits=self.limits, uid_base=self.uid_base
            )
            layer = Layer(
                digest, unpacked.diff_id, unpacked.entries, unpacked.bytes, self.path(digest)
            )
            self._settle(staging)
            self.place(staging, layer, durable=True)
        finally:
            remove(staging)
        return layer

    def _settle(self, directory: Path) -> None:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syscalls.sync_filesystem(fd)
        finally:
            os.close(fd)

    def place(self, staging: Path, layer: Layer, *, durable: bool) -> None:
        """Let `staging`, whose content is that of the layer's blob, be its directory. The content
        of one that is `durable` is on the disk."""
        with self._store.database.write() as db:
            row = (layer.digest, layer.diff_id, layer.entries, layer.bytes)
            if db.execute("INSERT OR IGNORE INTO layers VALUES (?, ?, ?, ?)", row).rowcount == 0:
                return  # another writer was first
            if layer.path.exists():
                layer.path.rename(self._store.staging("trash"))  # left by one that was killed
            staging.rename(layer.path)
            if durable:
                sync_directory(layer.path.parent)
            else:
                self._store.doubt(layer.digest)
