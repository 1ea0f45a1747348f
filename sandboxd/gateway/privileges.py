"""Gives root away for good, before the first byte of a stranger is read."""

import ctypes
import os
from pathlib import Path

from sandboxd.settings import SettingsError

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38


def drop(uid: int, gid: int | None = None, *, who: str = "gateway") -> None:
    """Become user `uid` and group `gid` (of the same number, if none), without capabilities or a way
    back.

    A process that was not started as root only forgoes new privileges. Raises SettingsError, naming
    the uid of `who`, if it is root's or root's privileges are left; OSError if the kernel refuses.
    """
    if os.geteuid() == 0:
        gid = uid if gid is None else gid
        if uid <= 0 or gid <= 0:
            raise SettingsError(f"{who}.uid: the {who} does not run as root")
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # Keys and other tenants' sources are in this memory; no core file and no ptrace of it.
    _prctl(_PR_SET_DUMPABLE, 0)
    _verify(who)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def _verify(who: str) -> None:
    """Believe the kernel's own account, not our calls' return values."""
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    root = {"0"} & {*status["Uid"].split(), *status["Gid"].split(), *status["Groups"].split()}
    held = [name for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") if int(status[name], 16)]
    if root or held or status["NoNewPrivs"] != "1":
        left = "root's user or groups" if root else ", ".join(held) or "new privileges"
        raise SettingsError(f"{who}.uid: the process still has {left}")
