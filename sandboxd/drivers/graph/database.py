"""The graph database: which blobs there are, what refers to what, which names and leases hold them.

One write transaction at a time over all processes, which SQLite sees to. A file of the store appears
and disappears only inside such a transaction, so that a row and its file are never apart for others:
a `kill -9` can leave a file without a row (removed by the next collection), never the reverse. It is on
the disk when it ends, unless it says otherwise: the removal of a file must not outlive that of its row.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandboxd.errors import DriverFault

_BUSY_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS blobs(
    digest TEXT PRIMARY KEY, size INTEGER NOT NULL, added REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refs(  -- manifest -> config and layers, in order
    parent TEXT NOT NULL REFERENCES blobs ON DELETE CASCADE,
    position INTEGER NOT NULL,
    child TEXT NOT NULL,
    PRIMARY KEY (parent, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS layers(  -- unpacked directories, by the digest of their blob
    digest TEXT PRIMARY KEY REFERENCES blobs ON DELETE CASCADE,
    diff_id TEXT NOT NULL, entries INTEGER NOT NULL, bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS builds(  -- what instructions made, see `builder/cache`; NULL: nothing
    key TEXT PRIMARY KEY, digest TEXT REFERENCES blobs ON DELETE CASCADE, made REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS builds_of ON builds(digest);
CREATE TABLE IF NOT EXISTS unsynced(  -- not yet known to be on the disk, see `Store.settle`
    digest TEXT PRIMARY KEY REFERENCES blobs ON DELETE CASCADE, boot TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS volumes(  -- file systems of tenants, see `volumes`
    tenant TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL UNIQUE, size INTEGER NOT NULL,
    created REAL NOT NULL, PRIMARY KEY (tenant, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tags(
    name TEXT PRIMARY KEY, digest TEXT NOT NULL REFERENCES blobs, changed REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases(  -- what a live process (see `holders`) needs to stay
    holder TEXT NOT NULL, lease TEXT NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY (holder, lease, digest)
) WITHOUT ROWID;
"""
UNREACHABLE = """
WITH RECURSIVE reachable(digest) AS (
    SELECT digest FROM tags UNION SELECT digest FROM leases
    UNION SELECT refs.child FROM refs JOIN reachable ON refs.parent = reachable.digest
)
SELECT digest, size FROM blobs WHERE digest NOT IN (SELECT digest FROM reachable)
"""


class Database:
    """Safe from several threads: one connection, one lock."""

    def __init__(self, path: Path) -> None:
        """Raises DriverFault where it cannot be opened."""
        self._lock = threading.RLock()
        with faults("open"):
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._connection.executescript(_SCHEMA)

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """The one write transaction; committed at the end, rolled back on an exception. Within
        another of the same thread it is part of that one.

        One that is not durable does not wait for the disk: with the machine's power it may be lost,
        never half. The next durable one puts it on the disk too.
        """
        with self._lock, faults("write"):
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        with self._lock, faults("read"):
            return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        with self._lock:
            self._connection.close()


@contextmanager
def faults(operation: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise DriverFault("graph", f"{operation} the database", str(error)) from error
