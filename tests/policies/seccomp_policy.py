"""The shipped seccomp policy, compiled for this machine, and what it answers."""

import errno
import platform
from pathlib import Path

from msgspec import Struct

from sandboxd.native import compile_seccomp, eval_seccomp
from sandboxd.settings import Settings

X86_64, AARCH64, I386, ARM = 0xC000_003E, 0xC000_00B7, 0x4000_0003, 0x4000_0028
"""AUDIT_ARCH_* of linux/audit.h."""
X32 = 0x4000_0000
"""Bit of the number that makes a 64-bit x86 call an x32 one."""

POLICY = Settings().policy_path / "seccomp" / "default.json"
PROGRAM = compile_seccomp(POLICY.read_bytes())
NATIVE = {"x86_64": X86_64, "aarch64": AARCH64}[platform.machine()]

_NAMES = {**errno.errorcode, 0: "success", errno.EOPNOTSUPP: "EOPNOTSUPP"}

ALLOW, KILL = "allow", "kill"
BY_ARGUMENTS = "by-arguments"


class Line(Struct, frozen=True):
    """One line of the golden file."""

    number: int
    name: str
    verdict: str


def golden() -> list[Line]:
    """What the golden file promises for this machine's system calls, by number."""
    column = 0 if NATIVE == X86_64 else 1
    text = Path(__file__).with_name("seccomp_default.golden").read_text()
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    lines = [Line(int(row[column]), row[2], row[3]) for row in rows if row[column] != "-"]
    return sorted(lines, key=lambda line: line.number)


NUMBERS = {line.name: line.number for line in golden()}


def verdict(number: int, *args: int, arch: int = NATIVE) -> str:
    """`allow`, `kill`, or the name of the errno (`success` for errno 0)."""
    answer = eval_seccomp(PROGRAM, arch, number, args)
    if answer == 0x7FFF_0000:
        return ALLOW
    if answer == 0x8000_0000:
        return KILL
    if answer >> 16 == 0x0005:
        return _NAMES[answer & 0xFFFF]
    raise ValueError(f"unexpected answer {answer:#x}")


def call(name: str, *args: int) -> str:
    return verdict(NUMBERS[name], *args)
