"""Copies of a live sandbox's file system: as an image of the store, or only for others to start on.

The caller holds the sandbox still, and from then on needs it no more.
"""

from pathlib import Path

from msgspec.structs import replace

from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.image import Hold, Image
from sandboxd.drivers.graph.overlay import Rootfs
from sandboxd.drivers.graph.snapshot import seal, snapshot
from sandboxd.errors import Conflict


class Copies:
    def __init__(self, graph: Graph, rootfs: Rootfs) -> None:
        self._graph, self._rootfs = graph, rootfs

    def snapshot(
        self, image: Image, scratch: int, uid: int, *, name: str | None, note: str
    ) -> tuple[str, int]:
        """Digest of an image of the store, and bytes of its new layer. Blocks. Raises Conflict if
        the sandbox is on none of the store's, InvalidImage for a tree that cannot be a layer."""
        if not image.digest:
            raise Conflict("a snapshot needs a sandbox on an image of the store")
        images = self._graph.images
        with self._graph.store.leasing() as lease:
            digest = snapshot(images, lease, image.digest, scratch, uid, note)
            if name is not None:
                self._graph.store.tag(name, digest)
        top = images.details(digest).manifest.layers[-1]
        return digest, 0 if digest == image.digest else top.size

    def beneath(self, image: Image, scratch: int, uid: int) -> Image | None:
        """What others start on to have the sandbox's files as they are now, held once for the
        caller; None if that is its own image. Blocks. Raises as `snapshot`."""
        if image.digest:
            with self._graph.store.leasing(image.digest) as lease:
                digest = snapshot(self._graph.images, lease, image.digest, scratch, uid, "fork")
                return None if digest == image.digest else self._rootfs.image(digest)
        with self._graph.store.leasing() as lease:
            digest = seal(self._graph.images, lease, scratch, uid)
            if not digest:
                return None
            (layer,) = self._graph.layers.ensure([digest])
            return self._on_top(image, digest, layer.path)

    def _on_top(self, image: Image, digest: str, layer: Path) -> Image:
        if self._rootfs.uid_base is None:
            raise Conflict("the file system of this node's store cannot map owners")
        hold = _Both(image.hold, self._rootfs, digest)
        hold.take()
        return replace(
            image,
            lower=layer,
            below=(image.lower, *image.below),
            uid_base=self._rootfs.uid_base,
            hold=hold,
        )


class _Both:
    """Keeps a layer, and what is below it."""

    def __init__(self, below: Hold | None, rootfs: Rootfs, digest: str) -> None:
        self._below, self._rootfs, self._digest = below, rootfs, digest

    def take(self) -> None:
        if self._below is not None:
            self._below.take()
        self._rootfs.take(self._digest)

    def drop(self) -> None:
        self._rootfs.drop(self._digest)
        if self._below is not None:
            self._below.drop()
