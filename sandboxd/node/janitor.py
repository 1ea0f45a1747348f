"""Removes what an earlier node of this instance left when it was killed.

Everything on the host carries the instance's name: the control groups `sandboxd-<instance>` hold every
process, and with its processes gone a sandbox's mount, network and other namespaces, and the mounts in
them, are gone too. uid ranges are free again once the lock of the dead node is, which is when it died.
"""

import fcntl
import logging
import os
from collections.abc import Collection
from pathlib import Path

from sandboxd.drivers.exec.cgroups import Cgroups
from sandboxd.errors import DriverFault

log = logging.getLogger(__name__)


class InstanceLock:
    """One node per instance: held for the node's life, and dropped by the kernel at its death."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise DriverFault(
                "node", "start", f"another node of this instance runs (lock {path})"
            ) from None

    def release(self) -> None:
        os.close(self._fd)


def sweep(cgroups: Cgroups, keep: Collection[str] = ()) -> int:
    """Kill and remove the sandboxes of earlier nodes, but those to `keep`; how many there were."""
    count = cgroups.sweep(keep)
    if count:
        log.warning("removed %d sandboxes that an earlier node left", count)
    return count
