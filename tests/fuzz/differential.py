"""What the kernel itself answers to a system call under a seccomp program."""

import ctypes
import platform
import struct
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

ARCHITECTURE = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}[platform.machine()]
UNFILTERED = {"x86_64": {335, 336}, "aarch64": set()}[platform.machine()]
"""uretprobe and uprobe: since 6.11 and 6.18 the kernel lets them past every filter, lest a traced
program die of its own. From elsewhere than a probe's trampoline they are SIGILL and ENXIO."""
_SOURCE = Path(__file__).parent / "targets" / "verdicts.c"
_ERRNO, _KILL_PROCESS, _KILL_THREAD = 0x0005_0000, 0x8000_0000, 0
_libseccomp = ctypes.CDLL("libseccomp.so.2")


@cache
def number(name: str) -> int:
    """Of a system call, on this machine."""
    found: int = _libseccomp.seccomp_syscall_resolve_name(name.encode())
    assert found >= 0, name
    return found


def kind(verdict: int) -> str:
    """A verdict in the words of `Oracle.verdicts`."""
    if verdict & 0xFFFF_0000 == _ERRNO:
        return f"errno {min(verdict & 0xFFFF, 4095)}"
    return "kill" if verdict in (_KILL_PROCESS, _KILL_THREAD) else f"{verdict:#x}"


class Oracle:
    """Asks by doing: only for programs that let none of the calls through."""

    def __init__(self, directory: Path) -> None:
        self._executable = directory / "verdicts"
        subprocess.run(
            ["cc", "-O1", "-Wall", "-Werror", "-o", self._executable, _SOURCE], check=True
        )

    def verdicts(self, program: bytes, calls: Sequence[tuple[int, Sequence[int]]]) -> list[str]:
        question = struct.pack("<II", len(program), len(calls)) + program
        for call, args in calls:
            question += struct.pack("<q6Q", call, *args)
        done = subprocess.run(
            [self._executable], input=question, capture_output=True, check=True, timeout=30
        )
        answers = struct.unpack(f"<{len(calls)}q", done.stdout)
        return ["kill" if answer == 1 << 62 else f"errno {-answer}" for answer in answers]
