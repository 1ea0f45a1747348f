"""Pull and push: whole images between a registry and the store, blobs side by side.

A layer is unpacked as soon as it is here, while others are still on their way. A download that breaks
goes on where it broke; what the store has is neither downloaded nor, where the registry has it, sent.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol
from urllib.parse import urljoin

import httpx

from sandboxd.drivers.graph.images import Images, decode
from sandboxd.drivers.graph.importing import choose
from sandboxd.drivers.graph.registry.client import Broken, Client
from sandboxd.drivers.graph.store import BlobWriter, Lease
from sandboxd.errors import DriverFault, InvalidImage, UnknownImage
from sandboxd.model.image import (
    INDEXES,
    MANIFEST_MAX,
    MANIFESTS,
    Descriptor,
    Index,
    Manifest,
)

_AT_ONCE = 4
_CHUNK = 1 << 20
_BREAKS_MAX = 20
"""Of one download, none of which was without progress."""


class Progress(Protocol):
    """Is told of every blob, from several threads."""

    def __call__(self, digest: str, done: int, total: int, /) -> None: ...


def pull(client: Client, images: Images, lease: Lease, progress: Progress) -> str:
    """Bring the client's image into the store. Returns its digest; the caller names it.

    Of a list of platforms this machine's is taken. Raises UnknownImage, InvalidImage, DriverFault.
    """
    reference = client.name.reference
    for _ in range(3):
        data, kind = _manifest(client, reference)
        if kind not in INDEXES:
            break
        reference = choose(decode(data, Index, "index")).digest
    manifest = decode(data, Manifest, "manifest")

    def bring(blob: Descriptor) -> None:
        _download(client, images, lease, blob, progress)
        if blob is not manifest.config:
            images.layers.ensure([blob.digest])

    with ThreadPoolExecutor(_AT_ONCE, "pull") as threads:
        once = {blob.digest: blob for blob in (manifest.config, *manifest.layers)}
        for future in [threads.submit(bring, blob) for blob in once.values()]:
            future.result()
    return images.add(lease, data)


def push(client: Client, images: Images, digest: str, progress: Progress) -> None:
    """Send an image of the store, held by the caller, under the client's name.

    Raises UnknownImage, DriverFault.
    """
    manifest = images.details(digest).manifest

    def send(blob: Descriptor) -> None:
        _upload(client, images, blob, progress)

    with ThreadPoolExecutor(_AT_ONCE, "push") as threads:
        once = {blob.digest: blob for blob in (manifest.config, *manifest.layers)}
        list(threads.map(send, once.values()))
    client.small(
        "PUT",
        client.url(f"manifests/{client.name.tag}"),
        accept=(201,),
        headers={"Content-Type": manifest.media_type},
        body=images.store.read(digest, MANIFEST_MAX),
    )


def _manifest(client: Client, reference: str) -> tuple[bytes, str]:
    answer = client.small(
        "GET",
        client.url(f"manifests/{reference}"),
        headers={"Accept": ", ".join((*MANIFESTS, *INDEXES))},
        limit=MANIFEST_MAX,
    )
    if reference.startswith("sha256:"):
        found = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
        if found != reference:
            raise InvalidImage(f"{reference}: the registry gave {found}")
    return answer.content, answer.headers.get("content-type", "").partition(";")[0].strip()


def _download(
    client: Client, images: Images, lease: Lease, blob: Descriptor, progress: Progress
) -> None:
    lease.add(blob.digest)
    if not images.store.has(blob.digest):
        with images.store.writing(lease, blob.digest) as writer:
            for _ in range(_BREAKS_MAX):
                before = writer.size
                try:
                    _receive(client, blob, writer, progress)
                    break
                except Broken as error:
                    if writer.size == before:
                        raise DriverFault(
                            "registry", f"download {blob.digest}", str(error)
                        ) from error
            if writer.size != blob.size:
                raise InvalidImage(f"{blob.digest}: {writer.size} bytes instead of {blob.size}")
    progress(blob.digest, blob.size, blob.size)


def _receive(client: Client, blob: Descriptor, writer: BlobWriter, progress: Progress) -> None:
    """Go on with a download where it is."""
    begin = writer.size
    headers = {"Accept-Encoding": "identity"}
    if begin:
        headers["Range"] = f"bytes={begin}-"
    with client.streaming(
        "GET", client.url(f"blobs/{blob.digest}"), accept=(200, 206), headers=headers
    ) as answer:
        skip = begin if answer.status_code == 200 else 0
        for part in answer.iter_raw():
            fresh = part[skip:]
            skip -= min(skip, len(part))
            if writer.size + len(fresh) > blob.size:
                raise InvalidImage(f"{blob.digest}: more than its {blob.size} bytes")
            writer.write(fresh)
            progress(blob.digest, writer.size, blob.size)
    if writer.size < blob.size:
        raise Broken(f"the body ended after {writer.size} bytes")


def _upload(client: Client, images: Images, blob: Descriptor, progress: Progress) -> None:
    if not _is_there(client, blob.digest):
        begun = client.small("POST", client.url("blobs/uploads/"), accept=(202,))
        where = urljoin(client.url("blobs/uploads/"), begun.headers.get("location", ""))
        target = httpx.URL(where).copy_merge_params({"digest": blob.digest})

        def content() -> Iterator[bytes]:
            done = 0
            with images.store.blob(blob.digest).open("rb") as file:
                while data := file.read(_CHUNK):
                    yield data
                    done += len(data)
                    progress(blob.digest, done, blob.size)

        client.small(
            "PUT",
            str(target),
            accept=(201,),
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(blob.size),
            },
            body=content,
        )
    progress(blob.digest, blob.size, blob.size)


def _is_there(client: Client, digest: str) -> bool:
    try:
        client.small("HEAD", client.url(f"blobs/{digest}"))
    except UnknownImage:
        return False
    return True
