"""What this kernel's Landlock can do."""

import ctypes

_CREATE_RULESET, _VERSION = 444, 1
SIGNALS = 6
"""The ABI from which on it keeps signals in."""


def abi() -> int:
    """0 without Landlock."""
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)))
