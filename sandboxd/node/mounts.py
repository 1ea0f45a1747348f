"""What sandboxes may have mounted beside their image: found, and checked against the tenant."""

from collections.abc import Callable, Sequence

from sandboxd.drivers.exec.base import Mount
from sandboxd.drivers.graph import tenancy
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.overlay import Rootfs
from sandboxd.drivers.graph.volumes import DataSource, Volumes
from sandboxd.errors import InvalidImage
from sandboxd.model.mounts import DataMount, VolumeMount


class Mounts:
    def __init__(
        self, graph: Graph, rootfs: Rootfs, volumes: Volumes, owner_map: Callable[[int], int]
    ) -> None:
        """`owner_map` gives a user namespace, which stays its own, for a sandbox's first uid."""
        self._graph, self._rootfs, self._volumes = graph, rootfs, volumes
        self._owner_map = owner_map if rootfs.maps_owners else None

    def of(
        self, tenant: str, volumes: Sequence[VolumeMount], data: Sequence[DataMount]
    ) -> tuple[Mount, ...]:
        """Raises NotFound for a volume, UnknownImage or InvalidImage for data. Blocks."""
        return (
            *(self._volume(tenant, volume) for volume in volumes),
            *(self._data(tenant, each) for each in data),
        )

    def _volume(self, tenant: str, wanted: VolumeMount) -> Mount:
        record = self._volumes.get(tenant, wanted.name)
        return Mount(wanted.path, self._volumes.source(record, read_only=wanted.read_only))

    def _data(self, tenant: str, wanted: DataMount) -> Mount:
        images, rootfs = self._graph.images, self._rootfs
        digest = tenancy.resolve(images, tenant, wanted.digest)
        layers = images.details(digest).manifest.layers
        if len(layers) != 1:
            raise InvalidImage(f"{digest}: data is an image of one layer, not {len(layers)}")
        source = DataSource(
            images.layers.path(layers[0].digest), self._owner_map,
            take=lambda: rootfs.take(digest), drop=lambda: rootfs.drop(digest),
        )  # fmt: skip
        return Mount(wanted.path, source)
