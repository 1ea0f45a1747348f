"""Gives root away for good, before the first byte of a stranger is read."""

import ctypes
import os
from pathlib import Path

from sandboxd.settings import SettingsError

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38


def drop(uid: int) -> None:
    """Become user and group `uid`, without capabilities or a way back.

    A process that was not started as root only forgoes new privileges. Raises SettingsError if
    `uid` is root's or root's privileges are left, and OSError if the kernel refuses.
    """
    if os.geteuid() == 0:
        if uid <= 0:
            raise SettingsError("gateway.uid: the gateway does not run as root")
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # Keys and other tenants' sources are in this memory; no core file and no ptrace of it.
    _prctl(_PR_SET_DUMPABLE, 0)
    _verify()


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def _verify() -> None:
    """Believe the kernel's own account, not our calls' return values."""
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    root = {"0"} & {*status["Uid"].split(), *status["Gid"].split(), *status["Groups"].split()}
    held = [name for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") if int(status[name], 16)]
    if root or held or status["NoNewPrivs"] != "1":
        left = "root's user or groups" if root else ", ".join(held) or "new privileges"
        raise SettingsError(f"gateway.uid: the process still has {left}")
