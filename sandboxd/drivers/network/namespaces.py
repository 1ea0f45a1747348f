"""Moving the calling thread between network namespaces."""

import ctypes
import os
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_NEWNET = 0x4000_0000
_libc = ctypes.CDLL(None, use_errno=True)


def here() -> int:
    """Descriptor of the calling thread's namespace, owned by the caller. Raises OSError."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def enter(namespace: int) -> None:
    """Raises OSError."""
    if _libc.setns(namespace, _NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def close(*namespaces: int) -> None:
    for namespace in namespaces:
        os.close(namespace)


def inside(namespace: int, home: int, work: Callable[[], T]) -> T:
    """Do `work` in `namespace`, and be back in `home`. Raises OSError, and what `work` raises.

    The process ends if there is no way back: nothing may run on in a sandbox's namespace.
    """
    enter(namespace)
    try:
        return work()
    finally:
        try:
            enter(home)
        except OSError:
            os.abort()
