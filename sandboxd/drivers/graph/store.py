"""The store: blobs by their sha256, names, and leases; `collection` removes what nothing refers to.

    graph.db     which rows exist; see `database`
    blobs/<hex>  content, complete and verified
    layers/<hex> unpacked layers, by the digest of their blob; see `layers`
    volumes/<id> file systems of tenants; see `volumes`
    staging/     unfinished work, named by its holder; renamed into place when it is whole
    holders/     a locked file per live process

Several processes may use one store at once, and any may be killed at any point.
"""

import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType

from msgspec import Struct

from sandboxd.drivers.graph import holders, syscalls
from sandboxd.drivers.graph.database import Database
from sandboxd.errors import DriverFault, InvalidImage, UnknownImage

_CHUNK = 1 << 20


class Tag(Struct, frozen=True):
    name: str
    digest: str
    changed: float
    """Unix time."""


class Store:
    def __init__(self, root: Path) -> None:
        """Open or make the store at `root`. Raises DriverFault."""
        self.root = root
        try:
            root.mkdir(mode=0o711, parents=True, exist_ok=True)
            for name in ("blobs", "staging", "holders", "volumes"):
                (root / name).mkdir(mode=0o700, exist_ok=True)
            (root / "layers").mkdir(mode=0o711, exist_ok=True)
            self.changes.touch()
            self.holder = holders.Holder(root / "holders")
        except OSError as error:
            raise DriverFault("graph", "open the store", str(error)) from error
        self.database = Database(root / "graph.db")
        self._recover()
        self._serial = 0

    def close(self) -> None:
        """Give up every lease of this process, when all is on the disk."""
        self.settle()
        with self.database.write() as db:
            db.execute("DELETE FROM leases WHERE holder = ?", (self.holder.name,))
        self.database.close()
        self.holder.close()

    # Blobs

    def has(self, digest: str) -> bool:
        return bool(self.database.rows("SELECT 1 FROM blobs WHERE digest = ?", digest))

    def size(self, digest: str) -> int:
        """Bytes. Raises UnknownImage."""
        rows = self.database.rows("SELECT size FROM blobs WHERE digest = ?", digest)
        if not rows:
            raise UnknownImage(f"no blob {digest}")
        return int(str(rows[0][0]))

    def blob(self, digest: str) -> Path:
        """Where a blob is; check `has`, under a lease, first."""
        return self.root / "blobs" / hex_of(digest)

    def read(self, digest: str, limit: int) -> bytes:
        """A small blob's content. Raises UnknownImage, or InvalidImage above `limit` bytes."""
        if self.size(digest) > limit:
            raise InvalidImage(f"{digest}: more than {limit} bytes")
        return self.blob(digest).read_bytes()

    @contextmanager
    def writing(
        self, lease: "Lease", expected: str | None = None, *, durable: bool = True
    ) -> Iterator["BlobWriter"]:
        """Stream a blob in. It is in the store at the end of the block, if its digest is right.

        The lease keeps it from then on. What is not `durable` may be lost with the machine's power
        until `settle`, and is then found to be lost; `kill -9` of whatever process loses nothing.

        Raises InvalidImage for content that is not `expected`; then, as on any exception inside the
        block, nothing is left.
        """
        path = self.staging("blob")
        writer = BlobWriter(path)
        try:
            with writer:
                yield writer
                digest = writer.finish(expected, sync=durable)
            self.place(path, digest, writer.size, lease, durable=durable)
        finally:
            path.unlink(missing_ok=True)

    def add(self, lease: "Lease", data: bytes, *, durable: bool = True) -> str:
        """Store a small document. Returns its digest."""
        with self.writing(lease, durable=durable) as writer:
            writer.write(data)
        return writer.digest

    def settle(self) -> None:
        """Write out what was not durable; blocks as long as the disk takes."""
        marks = self.database.rows("SELECT digest FROM unsynced WHERE boot = ?", _boot())
        if not marks:
            return
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syscalls.sync_filesystem(fd)
        finally:
            os.close(fd)
        with self.database.write() as db:
            db.executemany("DELETE FROM unsynced WHERE digest = ?", marks)

    def _recover(self) -> None:
        """Look at what an earlier boot of the machine had not written out yet."""
        for (text,) in self.database.rows("SELECT digest FROM unsynced WHERE boot <> ?", _boot()):
            digest = str(text)
            whole = _is_whole(self.blob(digest), digest)
            with self.database.write() as db:
                # Its directory cannot be told from a whole one: it is unpacked again.
                db.execute("DELETE FROM layers WHERE digest = ?", (digest,))
                if not whole:
                    broken = "SELECT parent FROM refs WHERE child = ? OR parent = ?"
                    for (parent,) in db.execute(broken, (digest, digest)).fetchall():
                        db.execute("DELETE FROM tags WHERE digest = ?", (parent,))
                        db.execute("DELETE FROM blobs WHERE digest = ?", (parent,))
                    db.execute("DELETE FROM tags WHERE digest = ?", (digest,))
                    db.execute("DELETE FROM blobs WHERE digest = ?", (digest,))
                db.execute("DELETE FROM unsynced WHERE digest = ?", (digest,))

    def place(self, path: Path, digest: str, size: int, lease: "Lease", *, durable: bool) -> None:
        """Let the file at `path`, which is `digest`, be a blob."""
        with self.database.write(durable=durable) as db:
            lease.put(db, digest)
            known = db.execute("SELECT 1 FROM blobs WHERE digest = ?", (digest,)).fetchone()
            if known is None:
                path.rename(self.blob(digest))
                if durable:
                    sync_directory(self.root / "blobs")
                db.execute("INSERT INTO blobs VALUES (?, ?, ?)", (digest, size, time.time()))
                if not durable:
                    self.doubt(digest)

    def doubt(self, digest: str) -> None:
        """What there is of a blob is not known to be on the disk until `settle`."""
        with self.database.write() as db:
            db.execute("INSERT OR IGNORE INTO unsynced VALUES (?, ?)", (digest, _boot()))

    def refer(self, parent: str, children: Iterable[str], *, durable: bool = True) -> None:
        """Record that a blob needs others to stay. Raises InvalidImage if one is not here."""
        listed = list(children)
        with self.database.write(durable=durable) as db:
            for digest in (parent, *listed):
                if not db.execute("SELECT 1 FROM blobs WHERE digest = ?", (digest,)).fetchone():
                    raise InvalidImage(f"{parent} refers to {digest}, which is not here")
            db.execute("DELETE FROM refs WHERE parent = ?", (parent,))
            db.executemany(
                "INSERT INTO refs VALUES (?, ?, ?)",
                [(parent, position, child) for position, child in enumerate(listed)],
            )

    # Names

    def tag(self, name: str, digest: str, allowed: Callable[[], None] = lambda: None) -> None:
        """Let `name` mean this manifest from now on. Raises UnknownImage if it is not here, and what
        `allowed` raises, in whose time nobody changes a name."""
        with self.database.write() as db:
            allowed()
            if not db.execute("SELECT 1 FROM refs WHERE parent = ?", (digest,)).fetchone():
                raise UnknownImage(f"no image {digest}")
            db.execute("INSERT OR REPLACE INTO tags VALUES (?, ?, ?)", (name, digest, time.time()))
        self._announce()

    def untag(self, name: str) -> None:
        """Raises UnknownImage."""
        with self.database.write() as db:
            if db.execute("DELETE FROM tags WHERE name = ?", (name,)).rowcount == 0:
                raise UnknownImage(f"no image named {name}")
        self._announce()

    def tags(self) -> list[Tag]:
        rows = self.database.rows("SELECT name, digest, changed FROM tags ORDER BY name")
        return [Tag(str(name), str(digest), float(str(at))) for name, digest, at in rows]

    @property
    def changes(self) -> Path:
        """A file whose modification tells of a changed name, for those who watch."""
        return self.root / "changes"

    def _announce(self) -> None:
        self.changes.write_text(f"{time.time_ns()}\n")

    # Leases

    @contextmanager
    def leasing(self, *digests: str) -> Iterator["Lease"]:
        """Keep blobs, and what they refer to, for the time of the block."""
        lease = self.lease(*digests)
        try:
            yield lease
        finally:
            lease.release()

    def lease(self, *digests: str) -> "Lease":
        """Keep blobs until released or until this process ends; they need not be here yet."""
        lease = Lease(self.database, self.holder.name, self._next())
        lease.add(*digests)
        return lease

    def staging(self, what: str) -> Path:
        """A path of our own for something unfinished."""
        return self.root / "staging" / f"{self.holder.name}-{what}{self._next()}"

    def _next(self) -> str:
        self._serial += 1
        return f"{self._serial}-{os.urandom(4).hex()}"


class BlobWriter:
    """A blob on its way in: counted and hashed as it is written."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self.size += len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    @property
    def digest(self) -> str:
        """Of what was written so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def finish(self, expected: str | None, *, sync: bool = True) -> str:
        if expected is not None and self.digest != expected:
            raise InvalidImage(f"{expected}: the content is {self.digest}")
        if sync:
            os.fsync(self._fd)
        return self.digest

    def __enter__(self) -> "BlobWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        os.close(self._fd)


class Lease:
    def __init__(self, database: Database, holder: str, name: str) -> None:
        self._database, self._key = database, (holder, name)

    def add(self, *digests: str) -> None:
        # A lease ends with its process, so no loss of power is survived by one.
        with self._database.write(durable=False) as db:
            self.put(db, *digests)

    def put(self, db: sqlite3.Connection, *digests: str) -> None:
        """`add` within a transaction."""
        db.executemany(
            "INSERT OR IGNORE INTO leases VALUES (?, ?, ?)",
            [(*self._key, digest) for digest in digests],
        )

    def release(self) -> None:
        with self._database.write(durable=False) as db:
            db.execute("DELETE FROM leases WHERE holder = ? AND lease = ?", self._key)


def hex_of(digest: str) -> str:
    """The file name of a digest. Raises InvalidImage for anything but `sha256:<64 hex>`."""
    algorithm, _, name = digest.partition(":")
    if algorithm != "sha256" or len(name) != 64 or not set(name) <= set("0123456789abcdef"):
        raise InvalidImage(f"{digest[:80]!r} is not a sha256 digest")
    return name


@cache
def _boot() -> str:
    """Another one after every start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _is_whole(path: Path, digest: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == hex_of(digest)
    except FileNotFoundError:
        return False


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove(path: Path) -> None:
    """Remove a file or a whole tree, whatever its names and modes; links are not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
