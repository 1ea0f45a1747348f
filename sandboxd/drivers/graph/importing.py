"""Makes images of what lies on this machine: OCI layouts, `docker save` archives, root file systems.

Their content is a stranger's whoever owns the file: blobs are verified as they are copied, archives of
archives are read by our own parser, layers are unpacked in the locked child.
"""

import os
import platform
import re
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

from msgspec import Struct

from sandboxd.drivers.graph.images import Images, decode
from sandboxd.drivers.graph.store import BlobWriter, Lease, Store, hex_of
from sandboxd.drivers.graph.unpack.tar import Malformed, entries, padding
from sandboxd.errors import DriverFault, InvalidImage
from sandboxd.model.image import (
    INDEXES,
    MANIFEST_MAX,
    OCI_LAYER,
    Config,
    Descriptor,
    History,
    Index,
    Manifest,
    Platform,
    Recipe,
    RootFs,
    RunConfig,
)

_CHUNK = 1 << 20
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_HOST_SOURCES = ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list")
_DEBIAN = re.compile(r"[a-z0-9][a-z0-9+.:/=~-]{0,127}\Z")
_LINKS_MAX = 8
_MEMBERS_MAX = 1000
"""Of an archive of an image: each becomes a file of the store."""
_MARKS = ("manifest.json", "oci-layout")
_INDEX_DEPTH = 3

Fetch = Callable[[Lease, Descriptor], None]
"""Bring a blob into the store."""


class _Saved(Struct, frozen=True, rename="pascal"):
    """An element of `manifest.json` in a `docker save` archive."""

    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


def here() -> Platform:
    machine = platform.machine()
    return Platform(architecture=_ARCHITECTURES.get(machine, machine), os="linux")


def from_layout(images: Images, lease: Lease, directory: Path) -> str:
    """The image of an OCI layout, for this machine's platform. Returns its digest."""

    def fetch(lease: Lease, blob: Descriptor) -> None:
        path = directory / "blobs" / "sha256" / hex_of(blob.digest)
        _copy_in(images.store, lease, path, blob.digest)

    index = decode(_document(directory / "index.json"), Index, "index.json")
    return _from_index(images, lease, index, fetch)


def from_archive(images: Images, lease: Lease, path: Path) -> str:
    """The image of a `docker save` archive or of an OCI layout in a tar. Returns its digest.

    An archive of several images is refused.
    """
    # One wait for the disk for all of them, and only for those that are an image's.
    members = _members(images.store, lease, path)
    digest = _of_members(images, lease, path.name, members)
    images.store.settle()
    return digest


def _of_members(images: Images, lease: Lease, archive: str, members: Mapping[str, str]) -> str:
    def document(name: str) -> bytes:
        return images.store.read(members[name], MANIFEST_MAX)

    if "index.json" in members and "oci-layout" in members:
        return _from_index(
            images, lease, decode(document("index.json"), Index, "index.json"), lambda *_: None
        )
    if "manifest.json" not in members:
        raise InvalidImage(f"{archive}: has neither manifest.json nor index.json")
    saved = decode(document("manifest.json"), list[_Saved], "manifest.json")
    if len(saved) != 1:
        raise InvalidImage(f"{archive}: holds {len(saved)} images, give one")
    for name in (saved[0].config, *saved[0].layers):
        if name not in members:
            raise InvalidImage(f"{archive}: {name[:80]!r} is missing")
    config = decode(document(saved[0].config), Config, "configuration")
    return images.assemble(
        lease, config, [layer_of(images.store, members[name]) for name in saved[0].layers]
    )


def from_rootfs(images: Images, lease: Lease, stream: BinaryIO, origin: str) -> str:
    """An image of one layer: the tar that `stream` holds, plain, gzip or zstd."""
    with images.store.writing(lease) as writer:
        while data := stream.read(_CHUNK):
            writer.write(data)
    return _single(images, lease, writer.digest, origin)


def from_directory(images: Images, lease: Lease, directory: Path) -> str:
    """An image of one layer: a directory as it is, owners included."""
    with images.store.writing(lease) as writer:
        out = cast("BinaryIO", TarSink(writer))
        with tarfile.open(mode="w|", fileobj=out, format=tarfile.PAX_FORMAT) as archive:
            archive.add(directory, arcname=".")
    return _single(images, lease, writer.digest, directory.name)


def from_debootstrap(images: Images, lease: Lease, recipe: Recipe, mirrors: Sequence[str]) -> str:
    """An image of Debian packages, fetched and put together by mmdebstrap.

    `mirrors` as mmdebstrap takes them; none: the host's own sources. Raises InvalidImage for what is no
    suite or package, DriverFault where mmdebstrap fails.
    """
    for word in (recipe.suite, *recipe.packages):
        if not _DEBIAN.match(word):
            raise InvalidImage(f"{word[:80]!r} is not a suite or a package of Debian")
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--mode=root"]
    if recipe.packages:
        command.append(f"--include={','.join(recipe.packages)}")
    sources = mirrors or [path for path in _HOST_SOURCES if Path(path).is_file()]
    with subprocess.Popen(
        [*command, "--", recipe.suite, "-", *sources],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        origin = f"debootstrap:{'+'.join([recipe.suite, *recipe.packages])}"
        with images.store.writing(lease) as writer:
            while data := process.stdout.read(_CHUNK):
                writer.write(data)
            if process.wait() != 0:
                raise DriverFault("graph", "mmdebstrap", f"it ended with {process.returncode}")
    return _single(images, lease, writer.digest, origin, recipe.env)


def is_archive_of_images(path: Path, marks: Sequence[str] = _MARKS) -> bool:
    """Whether a file is a plain tar with a document of an image, and not a root file system."""
    try:
        with path.open("rb", buffering=_CHUNK) as file:
            for entry in entries(_exactly(file)):
                if _normal(entry.name) in marks:
                    return True
                file.seek(entry.size + padding(entry.size), os.SEEK_CUR)
    except Malformed:
        pass  # compressed, or not a tar: the unpacking child will say which
    return False


def layer_of(store: Store, digest: str) -> Descriptor:
    """A descriptor of a blob that is a layer, by how it is compressed."""
    with store.blob(digest).open("rb") as file:
        magic = file.read(4)
    suffix = (
        "+gzip" if magic[:2] == b"\x1f\x8b" else "+zstd" if magic == b"\x28\xb5\x2f\xfd" else ""
    )
    return Descriptor(OCI_LAYER + suffix, digest, store.size(digest))


def _single(
    images: Images, lease: Lease, digest: str, origin: str, env: Mapping[str, str] | None = None
) -> str:
    layer = images.layers.ensure([digest])[0]
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    platform = here()
    config = Config(
        architecture=platform.architecture,
        os=platform.os,
        created=now,
        config=RunConfig(
            cmd=["/bin/sh"], env=[f"{name}={value}" for name, value in (env or {}).items()]
        ),
        rootfs=RootFs([layer.diff_id]),
        history=[History(created=now, created_by=f"sandboxd image import {origin}")],
    )
    return images.assemble(lease, config, [layer_of(images.store, digest)])


def _from_index(
    images: Images, lease: Lease, index: Index, fetch: Fetch, depth: int = _INDEX_DEPTH
) -> str:
    chosen = choose(index)
    fetch(lease, chosen)
    data = images.store.read(chosen.digest, MANIFEST_MAX)
    if chosen.media_type in INDEXES and depth:
        return _from_index(images, lease, decode(data, Index, "index"), fetch, depth - 1)
    manifest = decode(data, Manifest, "manifest")
    for blob in (manifest.config, *manifest.layers):
        fetch(lease, blob)
    return images.add(lease, data)


def choose(index: Index) -> Descriptor:
    """The entry for this machine's platform, or the only one that names none. Raises InvalidImage."""
    wanted = here()
    for entry in index.manifests:
        given = entry.platform
        if given and (given.os, given.architecture) == (wanted.os, wanted.architecture):
            return entry
    unnamed = [entry for entry in index.manifests if entry.platform is None]
    if len(unnamed) != 1:
        raise InvalidImage(f"no image for {wanted.os}/{wanted.architecture} in the index")
    return unnamed[0]


def _members(store: Store, lease: Lease, path: Path) -> dict[str, str]:
    """Every file of the archive as a blob, not durable: name -> digest, links of the archive followed."""
    found: dict[str, str] = {}
    links: dict[str, str] = {}
    try:
        with path.open("rb", buffering=_CHUNK) as file:
            read = _exactly(file)
            for entry in entries(read):
                name = _normal(entry.name)
                if len(found) + len(links) == _MEMBERS_MAX:
                    raise InvalidImage(f"{path.name}: more than {_MEMBERS_MAX} files are no image")
                if entry.kind == "file":
                    with store.writing(lease, durable=False) as writer:
                        for begin in range(0, entry.size, _CHUNK):
                            writer.write(read(min(_CHUNK, entry.size - begin)))
                    found[name] = writer.digest
                    read(padding(entry.size))
                elif entry.kind in ("symlink", "link"):
                    base = name.rpartition("/")[0] if entry.kind == "symlink" else ""
                    links[name] = _normal(os.fsencode(base) + b"/" + entry.link)
    except Malformed as error:
        raise InvalidImage(f"{path.name}: {error}") from None
    for name, target in links.items():
        for _ in range(_LINKS_MAX):
            target = links.get(target, target)
        if target in found:
            found[name] = found[target]
    return found


def _normal(name: bytes) -> str:
    """A member's name as the documents write it; what leads upwards stays below the top."""
    parts: list[str] = []
    for part in os.fsdecode(name).split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _copy_in(store: Store, lease: Lease, path: Path, digest: str) -> None:
    lease.add(digest)
    if store.has(digest):
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidImage(f"{digest}: {error.strerror}") from None
    with open(fd, "rb", buffering=0) as file, store.writing(lease, digest) as writer:
        while data := file.read(_CHUNK):
            writer.write(data)


def _document(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MANIFEST_MAX + 1)
    except OSError as error:
        raise InvalidImage(f"{path.name}: {error.strerror}") from None
    if len(data) > MANIFEST_MAX:
        raise InvalidImage(f"{path.name}: more than {MANIFEST_MAX} bytes")
    return data


def _exactly(file: BinaryIO) -> Callable[[int], bytes]:
    def read(size: int) -> bytes:
        data = file.read(size)
        if len(data) != size:
            raise Malformed("the archive is cut short")
        return data

    return read


class TarSink:
    """What tarfile writes to."""

    def __init__(self, writer: BlobWriter) -> None:
        self._writer = writer

    def write(self, data: bytes) -> int:
        self._writer.write(data)
        return len(data)
