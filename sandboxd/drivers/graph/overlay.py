"""Images of the store as root file systems: their layers in order, held while a sandbox is on them."""

import os
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from sandboxd.drivers.graph import syscalls
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.image import Image
from sandboxd.drivers.graph.layers import Layer
from sandboxd.drivers.graph.store import Lease
from sandboxd.drivers.graph.unpack.parent import IDS
from sandboxd.errors import DriverFault, InvalidImage, UnknownImage
from sandboxd.native import idmap

T = TypeVar("T")
BASE, HOST = "sandboxd.base", "host"
"""Label of an image that goes on top of the host's own directories, and its value."""


class Rootfs:
    """Hands out images of one store. Counts who is on which, so that a build writes no database."""

    def __init__(self, graph: Graph, uid_base: int) -> None:
        self._graph = graph
        self._uid_base = uid_base if mappable(graph.store.root / "layers", uid_base) else None
        self.maps_owners = self._uid_base is not None
        self.host: Image | None = None
        """The host's own directories, where images may be on top of them."""
        self._lock = threading.Lock()
        self._users: Counter[str] = Counter()
        self._leases: dict[str, Lease] = {}

    def image(self, name: str) -> Image:
        """The image of this name now, held once for the caller. Raises UnknownImage, InvalidImage."""
        with self._graph.store.leasing() as lease:
            digest = self._graph.images.resolve(name)
            lease.add(digest)
            details = self._graph.images.details(digest)
            layers = self._graph.layers.ensure(
                _stacked([layer.digest for layer in details.manifest.layers])
            )
            if not layers:
                raise InvalidImage(f"{name}: has no layers")
            self.take(digest)
        config = details.config.config
        image = Image(
            name=name,
            digest=digest,
            lower=layers[0].path,
            below=tuple(layer.path for layer in layers[1:]),
            binds=(),
            uid_base=self._uid_base,
            env=_environment((config and config.env) or []),
            workdir=(config and config.working_dir) or "",
            hold=_Held(self, digest),
        )
        if ((config and config.labels) or {}).get(BASE) == HOST:
            image = self._on_host(image)
        if not (image.workdir.startswith("/") and image.has(image.workdir)):
            return msgspec.structs.replace(image, workdir="")
        return image

    def _on_host(self, image: Image) -> Image:
        """On top of the host's directories, as the sandbox was of which it is a snapshot."""
        if self.host is None:
            self.drop(image.digest)
            raise InvalidImage(f"{image.name}: is on the host's directories, which are not given")
        return msgspec.structs.replace(
            image, below=(*image.below, self.host.lower, *self.host.below), binds=self.host.binds
        )

    def of_layers(self, layers: Sequence[Layer]) -> Image:
        """A root of layers from the bottom up, which the caller keeps by a lease of its own."""
        paths = _stacked([layer.path for layer in layers])
        return Image(
            name="", lower=paths[0], below=tuple(paths[1:]), binds=(), uid_base=self._uid_base
        )

    @property
    def changes(self) -> Path:
        """A file that is written whenever a name changes its meaning."""
        return self._graph.store.changes

    def digest(self, name: str) -> str:
        """What a name means now; empty if nothing."""
        try:
            return self._graph.images.resolve(name)
        except UnknownImage:
            return ""

    def take(self, digest: str) -> None:
        with self._lock:
            if self._users[digest] == 0:
                self._leases[digest] = self._graph.store.lease(digest)
            self._users[digest] += 1

    def drop(self, digest: str) -> None:
        with self._lock:
            self._users[digest] -= 1
            if self._users[digest] == 0:
                self._leases.pop(digest).release()


def _stacked(layers: Sequence[T]) -> list[T]:
    """From the top down, what occurs twice only where it is higher: it covers there all that it could
    show below, and the kernel refuses an overlay that has a directory twice (ELOOP)."""
    return list(dict.fromkeys(reversed(layers)))


def mappable(directory: Path, uid_base: int) -> bool:
    """Without mapping, an image's files all belong to nobody inside; what others may read stays so.
    Raises DriverFault."""
    try:
        namespace = idmap(uid_base, uid_base, IDS)
        try:
            return syscalls.can_map_owners(str(directory), namespace)
        finally:
            os.close(namespace)
    except OSError as error:
        raise DriverFault("graph", "map owners", str(error)) from error


class _Held:
    def __init__(self, rootfs: Rootfs, digest: str) -> None:
        self._rootfs, self._digest = rootfs, digest

    def take(self) -> None:
        self._rootfs.take(self._digest)

    def drop(self) -> None:
        self._rootfs.drop(self._digest)


def _environment(lines: list[str]) -> tuple[tuple[str, str], ...]:
    """The image's variables; what no environment can hold is left out."""
    pairs = (line.partition("=") for line in lines if "\0" not in line)
    return tuple((name, value) for name, equals, value in pairs if name and equals)
