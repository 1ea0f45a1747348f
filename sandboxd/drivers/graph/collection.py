"""Garbage collection: removes what no name, no live lease and no image leads to.

Rows go first, in one transaction; then every file that has no row. A collection that is killed between
the two leaves files without a row, which the next one removes.
"""

import sqlite3
from pathlib import Path

from msgspec import Struct

from sandboxd.drivers.graph import holders
from sandboxd.drivers.graph.database import UNREACHABLE
from sandboxd.drivers.graph.store import Store, remove


class Garbage(Struct, frozen=True):
    """What a collection removed, or would."""

    blobs: list[str]
    layers: list[str]
    bytes: int
    """Of the blobs."""
    abandoned: int
    """Pieces of unfinished work of processes that are gone, and files without a row."""


def collect(store: Store, *, dry_run: bool = False) -> Garbage:
    """Remove what no name and no live lease leads to, and dead processes' unfinished work."""
    with store.database.write() as db:
        _bury_holders(store, db)
        dead = db.execute(UNREACHABLE).fetchall()
        marks = [(digest,) for digest, _ in dead]
        layers = [
            digest for (digest,) in marks
            if db.execute("SELECT 1 FROM layers WHERE digest = ?", (digest,)).fetchone()
        ]  # fmt: skip
        if not dry_run:
            db.executemany("DELETE FROM blobs WHERE digest = ?", marks)
    trash = _orphans(store, dry_run=dry_run)
    return Garbage(
        blobs=[digest for digest, _ in dead],
        layers=layers,
        bytes=sum(size for _, size in dead),
        abandoned=trash - (0 if dry_run else len(dead) + len(layers)),
    )


def _bury_holders(store: Store, db: sqlite3.Connection) -> None:
    known = {str(row[0]) for row in db.execute("SELECT DISTINCT holder FROM leases")}
    files = {path.name for path in (store.root / "holders").iterdir()}
    for name in known | files:
        if name != store.holder.name and not holders.alive(store.root / "holders", name):
            db.execute("DELETE FROM leases WHERE holder = ?", (name,))


def _orphans(store: Store, *, dry_run: bool) -> int:
    """Remove files without a row and unfinished work without a process; how many there were."""
    found = _unfinished(store)
    with store.database.write() as db:
        # Files come and go only inside a write transaction, so this one sees no half-placed one.
        for kind, column in (("blobs", "digest"), ("layers", "digest"), ("volumes", "id")):
            rows = db.execute(f"SELECT {column} FROM {kind}")  # noqa: S608
            known = {str(row[0]).removeprefix("sha256:") for row in rows}
            for path in (store.root / kind).iterdir():
                if path.name not in known:
                    trash = path if dry_run else path.rename(store.staging("trash"))
                    found.append(trash)
    if not dry_run:
        for path in found:
            remove(path)
    return len(found)


def _unfinished(store: Store) -> list[Path]:
    directory = store.root / "holders"
    fates = {store.holder.name: True}
    found = []
    for path in (store.root / "staging").iterdir():
        name = path.name.partition("-")[0]
        if name not in fates:
            fates[name] = holders.alive(directory, name)
        if not fates[name]:
            found.append(path)
    return found
