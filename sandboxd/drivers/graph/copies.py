"""Copies of a live sandbox's file system: as a tenant's image, or only for others to start on.

The caller holds the sandbox still, and needs it no more afterwards. A sandbox on the host's own
directories makes an image of one layer which says, by a label, that it goes on top of those.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from sandboxd.drivers.graph import tenancy
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.image import Image
from sandboxd.drivers.graph.importing import here
from sandboxd.drivers.graph.overlay import BASE, HOST, Rootfs
from sandboxd.drivers.graph.snapshot import seal, snapshot
from sandboxd.drivers.graph.store import Lease
from sandboxd.model.image import OCI_LAYER, Config, Descriptor, History, RootFs, RunConfig

_EMPTY = bytes(1024)
"""A tar archive of nothing."""


class Copies:
    def __init__(self, graph: Graph, rootfs: Rootfs, images_max: Callable[[str], int]) -> None:
        """`images_max` bytes of layers of a tenant's images."""
        self._graph, self._rootfs, self._images_max = graph, rootfs, images_max

    def snapshot(
        self, tenant: str, image: Image, scratch: int, uid: int, *, name: str, note: str
    ) -> tuple[str, int]:
        """Digest of an image, which the tenant has by that name, and bytes of its new layer. Blocks.
        Raises InvalidImage for a tree that cannot be a layer, QuotaExceeded."""
        images, store = self._graph.images, self._graph.store
        tenancy.stored_name(tenant, name)  # before the work that a bad one would waste
        with store.leasing(*filter(None, [image.digest])) as lease:
            digest = self._sealed(lease, image, scratch, uid, note)
            if not digest:
                digest = self._on_host(lease, store.add(lease, _EMPTY), note)
            top = images.details(digest).manifest.layers[-1]
            size = 0 if digest == image.digest else top.size
            tenancy.give(images, tenant, name, digest, self._images_max(tenant))
        return digest, size

    def beneath(self, image: Image, scratch: int, uid: int) -> Image | None:
        """What others start on to have the sandbox's files as they are now, held once for the
        caller; None if that is its own image. Blocks. Raises InvalidImage."""
        with self._graph.store.leasing(*filter(None, [image.digest])) as lease:
            digest = self._sealed(lease, image, scratch, uid, "fork")
            return None if digest == image.digest else self._rootfs.image(digest)

    def _sealed(self, lease: Lease, image: Image, scratch: int, uid: int, note: str) -> str:
        """The image with what has changed; its own digest, empty for the host's, if nothing has."""
        images = self._graph.images
        if image.digest:
            return snapshot(images, lease, image.digest, scratch, uid, note)
        layer = seal(images, lease, scratch, uid)
        return self._on_host(lease, layer, note) if layer else ""

    def _on_host(self, lease: Lease, digest: str, note: str) -> str:
        """An image of one layer on top of the host's directories."""
        (layer,) = self._graph.layers.ensure([digest])
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        platform = here()
        config = Config(
            architecture=platform.architecture,
            os=platform.os,
            created=now,
            config=RunConfig(labels={BASE: HOST}),
            rootfs=RootFs([layer.diff_id]),
            history=[History(created=now, created_by=note)],
        )
        top = Descriptor(OCI_LAYER, digest, self._graph.store.size(digest))
        return self._graph.images.assemble(lease, config, [top], durable=False)
