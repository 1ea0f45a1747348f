"""`python filtered.py PROGRAM COMMAND...`: the command behind a seccomp program, and nothing else."""

import ctypes
import os
import sys
from pathlib import Path

_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def main() -> None:
    data = Path(sys.argv[1]).read_bytes()
    kept = ctypes.create_string_buffer(data, len(data))
    program = _Program(len(data) // 8, ctypes.addressof(kept))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "seccomp")
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
