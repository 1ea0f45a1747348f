"""What programs were compiled to, shared with the other nodes through the store.

A node that has another toolchain must not be given what this one's compiler made: a library or a version
less, and the same program would fail there. So its images are in the key, by their digests; the host's
own image has none, and is known by the list of its packages instead. Where there is no such list nothing
is shared.
"""

import contextlib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec

from sandboxd.drivers.graph.image import Image
from sandboxd.errors import Unavailable
from sandboxd.node.judging.compiled import Compiled
from sandboxd.queue.store import Store

_PACKAGES = Path("/var/lib/dpkg/status")
_encode = msgspec.msgpack.encode
_decoder = msgspec.msgpack.Decoder(Compiled)
Toolchain = Callable[[str], str | None]
"""What decides, beside the recipe, what comes out of a template's compilers; None if that is unknown."""


def toolchain(image: Image, packages: str | None) -> str | None:
    """Of an image; `packages` is that of the host's own."""
    return image.digest or packages


def host_packages(listed: Path = _PACKAGES) -> str | None:
    """Changes with every package of the host. Blocks for a read of some hundred kilobytes."""
    try:
        return "packages:" + sha256(listed.read_bytes()).hexdigest()
    except OSError:
        return None


class Artifacts:
    def __init__(self, store: Store, largest: int) -> None:
        """Nothing of more than `largest` bytes is shared."""
        self._store, self._largest = store, largest

    async def find(self, key: str) -> Compiled | None:
        """None also while the store does not answer: the compiler is here."""
        found = None
        with contextlib.suppress(Unavailable):
            found = await self._store.artifact(key)
        return _decoder.decode(found) if found is not None else None

    async def share(self, key: str, compiled: Compiled, size: int) -> None:
        if 0 <= size <= self._largest:
            with contextlib.suppress(Unavailable):
                await self._store.keep_artifact(key, _encode(compiled))
