"""Images in the store: adding one from its manifest, finding it by name, telling what it is."""

import re
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from sandboxd.drivers.graph.layers import Layer, Layers
from sandboxd.drivers.graph.store import Lease, Store
from sandboxd.errors import InvalidImage, UnknownImage
from sandboxd.model.image import LAYERS, MANIFEST_MAX, MANIFESTS, Config, Descriptor, Manifest

T = TypeVar("T")
_NAME = re.compile(
    r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::[0-9]{1,5})?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*(?::[A-Za-z0-9_][\w.-]{0,127})?\Z"
)


class Summary(Struct, frozen=True):
    name: str
    digest: str
    created: str | None
    layers: int
    size: int
    """Bytes of its blobs, as they are transferred."""


class ImageDetails(Struct, frozen=True):
    digest: str
    manifest: Manifest
    config: Config
    names: list[str]


def full_name(text: str) -> str:
    """A name with its tag: `python` is `python:latest`. Raises InvalidImage."""
    if len(text) > 255 or not _NAME.match(text):
        raise InvalidImage(f"{text[:80]!r} is not an image's name")
    return text if ":" in text.rpartition("/")[2] else f"{text}:latest"


def decode(data: bytes, kind: type[T], what: str) -> T:
    """A document of an image. Raises InvalidImage."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise InvalidImage(f"{what}: {error}") from None


class Images:
    def __init__(self, store: Store, layers: Layers) -> None:
        self.store, self.layers = store, layers

    def add(self, lease: Lease, manifest: bytes, *, durable: bool = True) -> str:
        """Make an image of blobs that are in the store, held by `lease`. Returns its digest.

        Unpacks its layers. Raises InvalidImage if anything does not fit together.
        """
        parsed = decode(manifest, Manifest, "manifest")
        self._check(parsed)
        config = self._config(parsed)
        layers = self.layers.ensure(layer.digest for layer in parsed.layers)
        _same_layers(layers, config)
        digest = self.store.add(lease, manifest, durable=durable)
        children = [parsed.config.digest, *(layer.digest for layer in layers)]
        self.store.refer(digest, children, durable=durable)
        return digest

    def assemble(
        self, lease: Lease, config: Config, layers: Sequence[Descriptor], *, durable: bool = True
    ) -> str:
        """Make an image of a new configuration and blobs that are in the store."""
        data = msgspec.json.encode(config)
        manifest = Manifest(
            schema_version=2,
            config=Descriptor(
                "application/vnd.oci.image.config.v1+json",
                self.store.add(lease, data, durable=durable),
                len(data),
            ),
            layers=list(layers),
        )
        return self.add(lease, msgspec.json.encode(manifest), durable=durable)

    def resolve(self, name: str) -> str:
        """The manifest's digest for a name, a digest, or enough of one. Raises UnknownImage."""
        if re.fullmatch(r"(sha256:)?[0-9a-f]{6,64}", name):
            prefix = "sha256:" + name.removeprefix("sha256:")
            rows = self.store.database.rows(
                "SELECT DISTINCT parent FROM refs WHERE parent >= ? AND parent < ? || 'g'",
                prefix, prefix,
            )  # fmt: skip
            if len(rows) == 1:
                return str(rows[0][0])
            if len(rows) > 1:
                raise UnknownImage(f"{name} is the beginning of {len(rows)} digests")
        wanted = full_name(name)
        rows = self.store.database.rows("SELECT digest FROM tags WHERE name = ?", wanted)
        if not rows:
            raise UnknownImage(f"no image named {wanted}")
        return str(rows[0][0])

    def details(self, digest: str) -> ImageDetails:
        """Raises UnknownImage."""
        manifest = decode(self.store.read(digest, MANIFEST_MAX), Manifest, "manifest")
        names = [tag.name for tag in self.store.tags() if tag.digest == digest]
        return ImageDetails(digest, manifest, self._config(manifest), names)

    def summaries(self) -> list[Summary]:
        found = []
        for tag in self.store.tags():
            details = self.details(tag.digest)
            found.append(
                Summary(
                    name=tag.name,
                    digest=tag.digest,
                    created=details.config.created,
                    layers=len(details.manifest.layers),
                    size=sum(layer.size for layer in details.manifest.layers),
                )
            )
        return found

    def _check(self, manifest: Manifest) -> None:
        if manifest.schema_version != 2 or manifest.media_type not in MANIFESTS:
            raise InvalidImage(f"manifest: {manifest.media_type[:80]!r} is not supported")
        for layer in manifest.layers:
            if layer.media_type not in LAYERS:
                raise InvalidImage(f"{layer.digest}: {layer.media_type[:80]!r} is not supported")
        for blob in (manifest.config, *manifest.layers):
            if not self.store.has(blob.digest):
                raise InvalidImage(f"manifest: {blob.digest} is missing")
            if self.store.size(blob.digest) != blob.size:
                raise InvalidImage(f"{blob.digest}: the manifest has another size")

    def _config(self, manifest: Manifest) -> Config:
        data = self.store.read(manifest.config.digest, MANIFEST_MAX)
        return decode(data, Config, "configuration")


def _same_layers(layers: Sequence[Layer], config: Config) -> None:
    theirs = config.rootfs.diff_ids
    if len(theirs) != len(layers):
        raise InvalidImage(f"{len(layers)} layers, but the configuration has {len(theirs)}")
    for layer, diff_id in zip(layers, theirs, strict=True):
        if layer.diff_id != diff_id:
            raise InvalidImage(
                f"{layer.digest}: is {layer.diff_id}, the configuration says {diff_id}"
            )
