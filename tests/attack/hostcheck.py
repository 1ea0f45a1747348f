"""What must be as it was on the host: cheap enough to be looked at after every case."""

import hashlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.attack.arsenal import Arsenal
from tests.patience import PATIENCE
from tests.service import host
from tests.service.instance import Service

HEALTHY_WITHIN = 1.0 * PATIENCE
"""Seconds, of a machine that is the service's; see `crowding`."""
_IPC = ("shm", "msg", "sem")


@dataclass(frozen=True)
class Sight:
    """Equal before and after, whatever other jobs run meanwhile."""

    canary: tuple[str, int, int, int, int]
    shared: str
    shown: tuple[str, ...]
    ipc: tuple[str, ...]
    mounts: tuple[str, ...]
    service: tuple[tuple[str, int], ...]


class HostCheck:
    def __init__(self, service: Service, arsenal: Arsenal) -> None:
        self._service, self._arsenal = service, arsenal
        self._client = httpx.Client(base_url=service.url, timeout=30 * HEALTHY_WITHIN)
        # Older than its change: the first read of it would show, even with relatime.
        status = arsenal.canary.stat()
        os.utime(arsenal.canary, ns=(status.st_mtime_ns - 10**12, status.st_mtime_ns))
        self.before = self._look()

    def after(self) -> list[str]:
        """What is not as it was, in words."""
        now, found = self._look(), []
        for name in Sight.__dataclass_fields__:
            if getattr(now, name) != getattr(self.before, name):
                found.append(f"{name}: {getattr(self.before, name)} became {getattr(now, name)}")
        times = [self._health() for _ in range(3)]
        if min(times) > HEALTHY_WITHIN * (crowd := crowding()):
            found.append(f"ready only after {times} s, on a machine {crowd:.1f} times too small")
        return found

    def _health(self) -> float:
        """Seconds to an answer, infinite for a wrong one. Our own threads are in it, hence several."""
        begin = time.monotonic()
        answer = self._client.get("/readyz")
        return time.monotonic() - begin if answer.status_code == 200 else float("inf")

    def close(self) -> None:
        self._client.close()

    def secret_unread(self) -> bool:
        """The content, read last of all, since reading it is what is watched for."""
        return self._arsenal.canary.read_text() == self._arsenal.nonce

    def _look(self) -> Sight:
        status = self._arsenal.canary.stat()
        uids = self._service.sandbox_uids
        objects = [
            f"{kind} {line.split()[:2]}"
            for kind in _IPC
            for line in Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]
            if any(word.isdigit() and int(word) in uids for word in line.split())
        ]
        for place in ("/dev/shm", "/dev/mqueue", "/tmp", "/var/tmp"):
            objects += _owned(Path(place), uids)
        return Sight(
            canary=(oct(status.st_mode), status.st_uid, status.st_size, status.st_mtime_ns,
                    status.st_atime_ns),
            shared=_digest(Path("/usr/bin/env")) + _digest(self._arsenal.directory / "env"),
            shown=tuple(sorted(path.name for path in self._arsenal.directory.iterdir())),
            ipc=tuple(objects),
            mounts=tuple(host.mounts(self._service.instance)),
            service=tuple(sorted(self._service.pids().items())),
        )  # fmt: skip


def crowding() -> float:
    """Seconds that pass while this thread gets one of CPU, at least 1: others starve it, and the service.

    A flood of a job cannot hide behind it: a job's share of the processors is capped.
    """
    wall, used = time.monotonic(), time.thread_time()
    while (got := time.thread_time() - used) < 0.02:
        pass
    return max(1.0, (time.monotonic() - wall) / got)


def _owned(place: Path, uids: range) -> list[str]:
    """What users of the range have in a directory where others come and go."""
    found = []
    for path in place.iterdir() if place.is_dir() else ():
        with suppress(FileNotFoundError):
            if path.lstat().st_uid in uids:
                found.append(str(path))
    return found


def _digest(path: Path) -> str:
    """Of the file as the page cache has it, which is what every sandbox executes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def interfaces() -> set[str]:
    return set(os.listdir("/sys/class/net"))
