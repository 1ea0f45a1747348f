"""What an instruction made the last time: key of all that it depends on -> digest of its layer.

A row goes with its layer, so that a cached layer lives as long as some image has it.
"""

import hashlib
import time
from collections.abc import Sequence

import msgspec

from sandboxd.drivers.graph.store import Lease, Store


def key(parents: Sequence[str], *parts: object) -> str:
    """Of the layers below, and whatever else decides what comes out."""
    data = msgspec.json.encode([list(parents), *parts])
    return hashlib.sha256(data).hexdigest()


def find(store: Store, lease: Lease, key: str) -> str | None:
    """The layer's digest, kept by `lease` from now on; empty if nothing changes; None: not known."""
    rows = store.database.rows("SELECT digest FROM builds WHERE key = ?", key)
    if not rows:
        return None
    if rows[0][0] is None:
        return ""
    digest = str(rows[0][0])
    lease.add(digest)
    return digest if store.has(digest) else None


def put(store: Store, key: str, digest: str) -> None:
    """`digest` is of a layer in the store, or empty if the instruction changes nothing."""
    with store.database.write() as db:
        row = (key, digest or None, time.time())
        db.execute("INSERT OR REPLACE INTO builds VALUES (?, ?, ?)", row)
