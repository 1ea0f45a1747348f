"""Host uid ranges: one per live sandbox, never two with the same.

A slot is a range of 65,536 uids. A node takes whole blocks of slots, each guarded by a lock file that
all nodes of the host share, so that two instances cannot hand out the same uid. A slot is free again
only after its sandbox was seen to be gone; one that failed to go is kept out of use.
"""

import fcntl
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from sandboxd.errors import DriverFault, Overload

SLOT = 65_536
_SIZE = 1_024 * SLOT
"""uids of one block."""
_LOCKS = Path("/run/sandboxd-uids")


class UidSlots:
    def __init__(
        self, base: int, count: int, locks: Path = _LOCKS, held: Sequence[int] = ()
    ) -> None:
        """Lock enough blocks for `count` slots from uid `base` upwards. `held` are the locks of the
        node before this one, which are still in force and now ours. Raises DriverFault."""
        self._held = {_inode(fd): fd for fd in held}
        self._locks: list[int] = []
        self._free: deque[int] = deque()
        locks.mkdir(mode=0o700, exist_ok=True)
        # Blocks lie at multiples of their size, whatever the base: two instances with different bases
        # must meet at the same lock.
        block = base - base % _SIZE
        while len(self._free) < count and block + _SIZE <= 0xFFFF_0000:
            if self._lock(locks / f"{block}.lock"):
                self._free.extend(uid for uid in range(block, block + _SIZE, SLOT) if uid >= base)
            block += _SIZE
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()
        if not self._free:
            raise DriverFault("uids", "lock a range", "every range from uid_base is in use")
        while len(self._free) > count:
            self._free.pop()

    def _lock(self, path: Path) -> bool:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if (ours := self._held.pop(_inode(fd), None)) is not None:
            os.close(fd)
            self._locks.append(ours)
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._locks.append(fd)
        return True

    @property
    def locks(self) -> list[int]:
        """Descriptors of the locks; they stay ours."""
        return list(self._locks)

    def adopt(self, uid: int) -> None:
        """A slot that is in use already. Raises DriverFault if it is not of our blocks."""
        try:
            self._free.remove(uid)
        except ValueError:
            raise DriverFault("uids", "adopt a slot", f"{uid} is none of ours") from None

    def take(self) -> int:
        """First uid of a free slot, the one longest out of use. Raises Overload when all are live."""
        try:
            return self._free.popleft()
        except IndexError:
            raise Overload("every uid range is in use", retry_after=1.0) from None

    def give_back(self, uid: int) -> None:
        self._free.append(uid)

    def close(self) -> None:
        for fd in self._locks:
            os.close(fd)
        self._locks.clear()


def _inode(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
