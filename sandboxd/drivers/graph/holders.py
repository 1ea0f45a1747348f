"""Processes that hold parts of the store: each is alive as long as the kernel keeps its file lock.

Leases and unfinished work carry their holder's name. When it dies, however it dies, the lock is gone,
and whoever collects garbage next takes both away.
"""

import fcntl
import os
import secrets
from pathlib import Path


class Holder:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        while True:
            self.name = f"h{secrets.token_hex(8)}"
            path = directory / self.name
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            # A collector may have taken the file away between the two.
            if path.exists() and path.stat().st_ino == os.fstat(self._fd).st_ino:
                return
            os.close(self._fd)

    def close(self) -> None:
        (self._directory / self.name).unlink(missing_ok=True)
        os.close(self._fd)


def alive(directory: Path, name: str) -> bool:
    """Whether the process that has this holder lives. A dead one's file is removed."""
    try:
        fd = os.open(directory / name, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        (directory / name).unlink(missing_ok=True)
        return False
    finally:
        os.close(fd)
