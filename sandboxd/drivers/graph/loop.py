"""Loop devices: files as block devices, at most one per file at a time on the whole host."""

import errno
import fcntl
import os
import struct
from pathlib import Path

from sandboxd.errors import DriverFault

_CONTROL = "/dev/loop-control"
_GET_FREE, _CONFIGURE, _GET_STATUS, _CLEAR = 0x4C82, 0x4C0A, 0x4C05, 0x4C01
_AUTOCLEAR, _DIRECT_IO = 4, 16
_BLOCK = 4096
_INFO = struct.Struct("<5Q4I64s64s32s2Q")
_CONFIG = struct.Struct(f"<2I{_INFO.size}s8Q")
_ATTEMPTS = 32


def attach(path: Path) -> int:
    """A descriptor of the device that shows `path`; the device is gone when nobody has it open.

    The caller holds a lock on the file. Raises DriverFault.
    """
    try:
        backing = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            found = _attached(os.fstat(backing))
            return found if found is not None else _configure(backing)
        finally:
            os.close(backing)
    except OSError as error:
        raise DriverFault("graph", "attach a loop device", str(error)) from error


def device(fd: int) -> str:
    """The path of an attached device."""
    return str(Path(f"/proc/self/fd/{fd}").readlink())


def _attached(file: os.stat_result) -> int | None:
    """A descriptor of the device that already shows the file: the last one's mounts may be on
    their way out still, and two devices of one file would be two caches of it."""
    for entry in Path("/sys/block").glob("loop*"):
        if not (entry / "loop").exists():
            continue
        try:
            fd = os.open(f"/dev/{entry.name}", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            status = _INFO.unpack(fcntl.ioctl(fd, _GET_STATUS, bytes(_INFO.size)))
        except OSError:
            os.close(fd)  # cleared meanwhile
            continue
        if (status[0], status[1]) == (_old_device(file.st_dev), file.st_ino):
            return fd
        os.close(fd)
    return None


def _old_device(number: int) -> int:
    """A device's number as the kernel encodes it for this call."""
    major, minor = os.major(number), os.minor(number)
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def _configure(backing: int) -> int:
    for _ in range(_ATTEMPTS):
        control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
        try:
            number = fcntl.ioctl(control, _GET_FREE)
        finally:
            os.close(control)
        fd = os.open(f"/dev/loop{number}", os.O_RDWR | os.O_CLOEXEC)
        info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, _AUTOCLEAR | _DIRECT_IO, b"", b"", b"", 0, 0)
        try:
            fcntl.ioctl(fd, _CONFIGURE, _CONFIG.pack(backing, _BLOCK, info, *[0] * 8))
        except OSError as error:
            os.close(fd)
            if error.errno == errno.EBUSY:
                continue  # another was first
            raise
        return fd
    raise OSError(errno.EBUSY, "no loop device is free")
