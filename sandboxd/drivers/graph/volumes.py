"""Volumes: named file systems of a tenant that outlive sandboxes.

Each is an ext4 file system of a fixed size in a sparse file of the store (`volumes/<id>`), made by us and
never written by anybody but the kernel: the size is the cap, exactly, and a crash is the journal's to
mend. In use it is a loop device and detached mounts; nothing of it has a path on the host. Its owners
are the store's range of ids, like those of layers, and each sandbox maps them to its own.
"""

import fcntl
import os
import re
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from sandboxd.drivers.graph import loop, mounting
from sandboxd.drivers.graph.store import Store, sync_directory
from sandboxd.errors import Conflict, DriverFault, InvalidRequest, NotFound, QuotaExceeded

JOB = 1000
"""Owner of a new volume's root directory, as sandboxes have it."""
SIZE_MIN = 8 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")
_MKFS_TIMEOUT = 60.0


class Volume(Struct, frozen=True):
    tenant: str
    name: str
    id: str
    size: int
    """Bytes, of the whole file system."""
    created: float
    """Unix time."""


class Volumes:
    """Safe from several threads and processes."""

    def __init__(self, store: Store, uid_base: int, idmap: Callable[[int], int]) -> None:
        """`idmap` gives a user namespace, which stays its own, for a sandbox's first uid."""
        self._store, self._uid_base, self._idmap = store, uid_base, idmap
        self._directory = store.root / "volumes"
        self._lock = threading.Lock()
        self._attached: dict[str, _Attached] = {}

    def create(self, tenant: str, name: str, size: int, *, tenant_max: int) -> Volume:
        """Raises InvalidRequest, Conflict if there is one, QuotaExceeded above `tenant_max` bytes."""
        if not _NAME.match(name):
            raise InvalidRequest(f"{name[:80]!r} is not a volume's name", field="name")
        if size < SIZE_MIN:
            raise InvalidRequest(f"a volume has at least {SIZE_MIN} bytes", field="size")
        volume = Volume(tenant, name, secrets.token_hex(16), size, time.time())
        staging = self._store.staging("volume")
        try:
            self._format(staging, size)
            with self._store.database.write() as db:
                taken = db.execute(
                    "SELECT name = ?, size FROM volumes WHERE tenant = ?", (name, tenant)
                ).fetchall()
                if any(same for same, _ in taken):
                    raise Conflict(f"there is a volume {name}", field="name")
                if sum(held for _, held in taken) + size > tenant_max:
                    raise QuotaExceeded(f"volumes of one tenant have at most {tenant_max} bytes")
                staging.rename(self._path(volume))
                sync_directory(self._directory)
                row = (tenant, name, volume.id, size, volume.created)
                db.execute("INSERT INTO volumes VALUES (?, ?, ?, ?, ?)", row)
        finally:
            staging.unlink(missing_ok=True)
        return volume

    def get(self, tenant: str, name: str) -> Volume:
        """Raises NotFound."""
        for volume in self.list(tenant):
            if volume.name == name:
                return volume
        raise NotFound(f"there is no volume {name[:80]!r}")

    def list(self, tenant: str) -> list[Volume]:
        rows = self._store.database.rows(
            "SELECT tenant, name, id, size, created FROM volumes WHERE tenant = ? ORDER BY name",
            tenant,
        )
        return [
            Volume(str(t), str(n), str(i), int(str(s)), float(str(c))) for t, n, i, s, c in rows
        ]

    def remove(self, tenant: str, name: str) -> None:
        """Raises NotFound, or Conflict while a sandbox has it."""
        volume = self.get(tenant, name)
        with self._lock:
            lock = _lock(self._path(volume), volume)
            try:
                with self._store.database.write() as db:
                    db.execute("DELETE FROM volumes WHERE id = ?", (volume.id,))
                self._path(volume).unlink(missing_ok=True)
            finally:
                os.close(lock)

    def source(self, volume: Volume, *, read_only: bool) -> "VolumeSource":
        return VolumeSource(self, volume, read_only=read_only)

    def mount(self, volume: Volume, uid: int, *, read_only: bool) -> int:
        """A detached mount for the sandbox whose first uid this is. Raises Conflict if another node
        of this host has the volume, NotFound if it is gone, DriverFault."""
        with self._using(volume) as device:
            return mounting.block_device(
                device, "ext4", options={"errors": "remount-ro"},
                read_only=read_only, idmap=self._idmap(uid),
            )  # fmt: skip

    def retake(self, volume: Volume) -> None:
        """A sandbox that outlived its node has a mount. Raises as `mount`."""
        with self._using(volume):
            pass

    @contextmanager
    def _using(self, volume: Volume) -> Iterator[str]:
        """The volume's device, which has one more user unless the block fails."""
        with self._lock:
            attached = self._attached.get(volume.id) or _Attached(self._path(volume), volume)
            try:
                yield loop.device(attached.device)
            except BaseException:
                if attached.users == 0:
                    attached.close()
                raise
            attached.users += 1
            self._attached[volume.id] = attached

    def drop(self, volume: Volume) -> None:
        """A sandbox that had a mount is gone."""
        with self._lock:
            attached = self._attached[volume.id]
            attached.users -= 1
            if attached.users == 0:
                # The kernel may still be taking the last mount down: `loop` finds the device then.
                self._attached.pop(volume.id).close()

    def _path(self, volume: Volume) -> Path:
        return self._directory / volume.id

    def _format(self, path: Path, size: int) -> None:
        owner = self._uid_base + JOB
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(fd, size)
                done = subprocess.run(
                    ["mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096",
                     "-E", f"root_owner={owner}:{owner}", path],
                    stdin=subprocess.DEVNULL, capture_output=True, timeout=_MKFS_TIMEOUT, check=False,
                )  # fmt: skip
                os.fsync(fd)
            finally:
                os.close(fd)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DriverFault("graph", "make a volume", str(error)) from error
        if done.returncode != 0:
            raise DriverFault("graph", "mkfs.ext4", done.stderr.decode(errors="replace").strip())


class VolumeSource:
    """A volume as a sandbox may have it."""

    def __init__(self, volumes: Volumes, volume: Volume, *, read_only: bool) -> None:
        self._volumes, self._volume, self._read_only = volumes, volume, read_only

    def mount(self, uid: int) -> int:
        return self._volumes.mount(self._volume, uid, read_only=self._read_only)

    def retake(self) -> None:
        self._volumes.retake(self._volume)

    def drop(self) -> None:
        self._volumes.drop(self._volume)


class DataSource:
    """A directory of the store, read-only: a layer."""

    def __init__(
        self,
        path: Path,
        idmap: Callable[[int], int] | None,
        *,
        take: Callable[[], None],
        drop: Callable[[], None],
    ) -> None:
        """`take` and `drop` keep the directory while a sandbox has it. Without `idmap` its files
        belong to nobody inside."""
        self._path, self._idmap = path, idmap
        self._take, self._drop = take, drop

    def mount(self, uid: int) -> int:
        namespace = self._idmap(uid) if self._idmap is not None else None
        self._take()
        try:
            return mounting.directory(str(self._path), idmap=namespace)
        except BaseException:
            self._drop()
            raise

    def retake(self) -> None:
        self._take()

    def drop(self) -> None:
        self._drop()


class _Attached:
    """A volume on its loop device, locked against other processes."""

    def __init__(self, path: Path, volume: Volume) -> None:
        self._lock = _lock(path, volume)
        self.users = 0
        try:
            self.device = loop.attach(path)
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        os.close(self.device)
        os.close(self._lock)


def _lock(path: Path, volume: Volume) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"there is no volume {volume.name}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise Conflict(f"volume {volume.name} is in use") from None
    return fd
