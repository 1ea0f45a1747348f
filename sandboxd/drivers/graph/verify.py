"""Checks a store from its files up: what the database says against what is on the disk."""

import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path

from sandboxd.drivers.graph.store import Store, hex_of


def verify(store: Store) -> Iterator[str]:
    """A sentence per damage; none if the store is whole. Leftovers of the killed are no damage.

    Reads every blob. A blob that a collection removes meanwhile is not reported.
    """
    for digest, size in store.database.rows("SELECT digest, size FROM blobs"):
        damage = _blob_damage(store.blob(str(digest)), str(digest), int(str(size)))
        if damage and store.has(str(digest)):
            yield f"blob {digest}: {damage}"
    for (digest,) in store.database.rows("SELECT digest FROM layers"):
        path = store.root / "layers" / hex_of(str(digest))
        if not path.is_dir() and store.has(str(digest)):
            yield f"layer {digest}: its directory is missing"
    for name, identity, size in store.database.rows("SELECT name, id, size FROM volumes"):
        path = store.root / "volumes" / str(identity)
        if not path.is_file() or path.stat().st_size != size:
            yield f"volume {name} ({identity}): its file is missing or has another size"
    for parent, child in store.database.rows(
        "SELECT parent, child FROM refs WHERE child NOT IN (SELECT digest FROM blobs)"
    ):
        yield f"image {parent}: needs {child}, which is missing"
    for name, digest in store.database.rows(
        "SELECT name, digest FROM tags WHERE digest NOT IN (SELECT parent FROM refs)"
    ):
        yield f"name {name}: leads to {digest}, which is no image"


def _blob_damage(path: Path, digest: str, size: int) -> str:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            return f"{status.st_size} bytes instead of {size}"
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "its file is missing"
    return "" if found == hex_of(digest) else f"its content is sha256:{found}"
