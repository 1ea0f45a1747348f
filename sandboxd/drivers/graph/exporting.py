"""Writes an image out: as an OCI layout in a directory, or as one archive that every tool loads.

The archive is an OCI layout with `docker save`'s manifest.json beside it, as Docker itself writes since
version 25.
"""

import io
import os
import tarfile
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import msgspec

from sandboxd.drivers.graph.images import Images
from sandboxd.drivers.graph.store import hex_of
from sandboxd.errors import DriverFault
from sandboxd.model.image import Descriptor, Index

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_CHUNK = 1 << 20


def to_layout(images: Images, digest: str, name: str, directory: Path) -> None:
    """Write a layout into a directory that is new or empty. The caller holds a lease."""
    try:
        (directory / "blobs" / "sha256").mkdir(parents=True)
        for blob in _blobs(images, digest):
            with images.store.blob(blob).open("rb") as source:
                target = directory / "blobs" / "sha256" / hex_of(blob)
                with target.open("xb") as file:
                    while data := source.read(_CHUNK):
                        file.write(data)
        (directory / "oci-layout").write_bytes(_LAYOUT)
        (directory / "index.json").write_bytes(_index(images, digest, name))
    except OSError as error:
        raise DriverFault("graph", "export", str(error)) from error


class Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


def to_archive(images: Images, digest: str, name: str, out: Sink) -> None:
    """Write an archive to a stream that need not seek. The caller holds a lease."""
    details = images.details(digest)
    saved = [
        {
            "Config": _member(details.manifest.config.digest),
            "RepoTags": [name] if name else [],
            "Layers": [_member(layer.digest) for layer in details.manifest.layers],
        }
    ]
    with tarfile.open(
        mode="w|", fileobj=cast(BinaryIO, out), format=tarfile.PAX_FORMAT, bufsize=_CHUNK
    ) as archive:
        _add(archive, "oci-layout", _LAYOUT)
        for blob in _blobs(images, digest):
            with images.store.blob(blob).open("rb") as file:
                entry = tarfile.TarInfo(_member(blob))
                entry.size, entry.mode = os.fstat(file.fileno()).st_size, 0o644
                archive.addfile(entry, file)
        _add(archive, "index.json", _index(images, digest, name))
        _add(archive, "manifest.json", msgspec.json.encode(saved))


def _blobs(images: Images, digest: str) -> list[str]:
    manifest = images.details(digest).manifest
    every = [digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)]
    return list(dict.fromkeys(every))


def _index(images: Images, digest: str, name: str) -> bytes:
    manifest = images.details(digest).manifest
    notes = {
        "org.opencontainers.image.ref.name": name.rpartition(":")[2] or "latest",
        **({"io.containerd.image.name": name} if name else {}),
    }
    entry = Descriptor(manifest.media_type, digest, images.store.size(digest), annotations=notes)
    return msgspec.json.encode(Index(schema_version=2, manifests=[entry]))


def _member(digest: str) -> str:
    return f"blobs/sha256/{hex_of(digest)}"


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    archive.addfile(entry, io.BytesIO(data))
