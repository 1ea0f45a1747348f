"""What is done to a device, and read of it, on the way of every run: by sysfs.

Netlink would do the same, at a price. There a device that is put into another group has changed, which
every other part of the kernel is told: IPv6 then walks all routes of the namespace, so that each run
would pay for every slot there is, and sends its multicast reports anew.
"""

import os

from sandboxd.drivers.mount_api import NODEV, NOEXEC, NOSUID, mounted
from sandboxd.errors import DriverFault


class Devices:
    """Virtual devices of what was the calling thread's namespace; for any thread."""

    def __init__(self) -> None:
        """Raises DriverFault."""
        self._sysfs = mounted("network", "sysfs", {}, NOSUID | NODEV | NOEXEC)

    def close(self) -> None:
        os.close(self._sysfs)

    def set_group(self, device: str, group: int) -> None:
        """Put a device into a link group. May wait for the kernel's one lock over all devices. Raises
        DriverFault."""
        try:
            fd = self._open(device, "netdev_group", os.O_WRONLY)
            try:
                os.write(fd, b"%d" % group)
            finally:
                os.close(fd)
        except OSError as error:
            raise DriverFault("network", "set the group of a device", str(error)) from error

    def traffic(self, device: str) -> tuple[int, int]:
        """Bytes that a device has received and sent; waits for nothing. Raises DriverFault."""
        try:
            return self._count(device, "rx_bytes"), self._count(device, "tx_bytes")
        except OSError as error:
            raise DriverFault("network", "read the counters of a device", str(error)) from error

    def _count(self, device: str, name: str) -> int:
        fd = self._open(device, f"statistics/{name}", os.O_RDONLY)
        try:
            return int(os.pread(fd, 32, 0))
        finally:
            os.close(fd)

    def _open(self, device: str, name: str, flags: int) -> int:
        path = f"devices/virtual/net/{device}/{name}"
        return os.open(path, flags | os.O_CLOEXEC, dir_fd=self._sysfs)
