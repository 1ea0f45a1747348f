"""The kernel's new mount API: file systems that are a descriptor, and have no path anywhere on the host.

A detached mount is gone when its descriptor and the sandboxes that took it are, so that a node that is
killed leaves none.
"""

import ctypes
import os
from collections.abc import Mapping

from sandboxd.errors import DriverFault

RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CLOEXEC = 1
_SET_STRING, _CREATE = 1, 6
_libc = ctypes.CDLL(None, use_errno=True)


def call(driver: str, what: str, number: int, *arguments: object) -> int:
    """A system call that glibc may have no word for. Raises DriverFault."""
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        raise DriverFault(driver, what, os.strerror(ctypes.get_errno()))
    return result


def mounted(driver: str, kind: str, options: Mapping[str, str], attributes: int) -> int:
    """A descriptor (O_PATH) of a file system of this kind, owned by the caller. One of a namespace's,
    such as sysfs, is of the calling thread's. Raises DriverFault."""
    what = " ".join(filter(None, ("mount", kind, options.get("source"))))
    context = call(driver, "fsopen", _FSOPEN, kind.encode(), _CLOEXEC)
    try:
        for name, value in options.items():
            given = name.encode(), value.encode()
            call(driver, "fsconfig", _FSCONFIG, context, _SET_STRING, *given, 0)
        call(driver, what, _FSCONFIG, context, _CREATE, None, None, 0)
        return call(driver, "fsmount", _FSMOUNT, context, _CLOEXEC, attributes)
    finally:
        os.close(context)
