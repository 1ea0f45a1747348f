"""Decides how a program ended. Pure: facts in, verdict out."""

import errno
import os
import signal
from enum import StrEnum

from msgspec import Struct

from sandboxd.model import Limits, Status
from sandboxd.native import Failed


class Stop(StrEnum):
    """Why the node ended a program before it ended by itself."""

    CANCELLED = "cancelled"
    MEMORY = "memory"
    CPU_TIME = "cpu_time"
    WALL_TIME = "wall_time"
    OUTPUT = "output"


class Facts(Struct, frozen=True, kw_only=True):
    """Everything known about an ended program."""

    stops: frozenset[Stop] = frozenset()
    wait_status: int | None = None
    """As wait(2) gave it; None if sandbox-init went down with the program."""
    failed: Failed | None = None
    """The runner could not carry out its order: the program never started."""
    cpu_time: float = 0.0
    wall_time: float = 0.0
    oom_kills: int = 0
    output_exceeded: bool = False
    scratch_full: bool = False
    """No free block or no free inode was left in the scratch file system."""


class Verdict(Struct, frozen=True):
    status: Status
    exit_code: int | None = None
    signal: str | None = None
    reason: str | None = None
    """A line for stderr or for the operator, where the status does not say it all."""


_KILLED = "SIGKILL"
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as a shell reports them


def classify(facts: Facts, limits: Limits) -> Verdict:
    """The one status, by precedence: cancelled, memory, CPU time, wall time, output, then its own end."""
    stopped = _stopped(facts, limits)
    if stopped is not None:
        return Verdict(stopped, signal=_KILLED)
    if facts.failed is not None:
        return _never_started(facts.failed)
    if facts.wait_status is None:
        return Verdict(Status.INTERNAL_ERROR, reason="sandbox_lost")
    return _own_end(facts, facts.wait_status)


def _stopped(facts: Facts, limits: Limits) -> Status | None:
    if Stop.CANCELLED in facts.stops:
        return Status.CANCELLED
    if Stop.MEMORY in facts.stops or facts.oom_kills > 0:
        return Status.MEMORY_EXCEEDED
    if Stop.CPU_TIME in facts.stops or facts.cpu_time > limits.cpu_time:
        return Status.CPU_TIME_EXCEEDED
    if Stop.WALL_TIME in facts.stops or facts.wall_time > limits.wall_time:
        return Status.WALL_TIME_EXCEEDED
    if Stop.OUTPUT in facts.stops or facts.output_exceeded:
        return Status.OUTPUT_EXCEEDED
    return None


def _own_end(facts: Facts, wait_status: int) -> Verdict:
    if os.WIFEXITED(wait_status):
        code = os.WEXITSTATUS(wait_status)
        if code == 0:
            return Verdict(Status.OK, exit_code=0)
        status = Status.DISK_EXCEEDED if facts.scratch_full else Status.NONZERO_EXIT
        return Verdict(status, exit_code=code)
    number = os.WTERMSIG(wait_status)
    name = signal_name(number)
    if number == signal.SIGSYS:
        return Verdict(Status.SECURITY_VIOLATION, signal=name)
    if number == signal.SIGXFSZ or facts.scratch_full:
        return Verdict(Status.DISK_EXCEEDED, signal=name)
    return Verdict(Status.SIGNALLED, signal=name)


def _never_started(failed: Failed) -> Verdict:
    if failed.stage == "exec" or failed.stage == "cwd":
        code = _NOT_FOUND if failed.errno in (errno.ENOENT, errno.ENOTDIR) else _NOT_EXECUTABLE
        return Verdict(
            Status.NONZERO_EXIT,
            exit_code=code,
            reason=f"cannot execute the command: {os.strerror(failed.errno)}",
        )
    if failed.stage == "files" and failed.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Verdict(Status.DISK_EXCEEDED, reason="the files do not fit into limits.disk")
    if failed.stage == "files":
        return Verdict(
            Status.NONZERO_EXIT,
            exit_code=_NOT_EXECUTABLE,
            reason=f"cannot write file {failed.index}: {os.strerror(failed.errno)}",
        )
    return Verdict(Status.INTERNAL_ERROR, reason=f"{failed.stage}: {os.strerror(failed.errno)}")


def signal_name(number: int) -> str:
    """`SIGSEGV`, or `SIGRT5` for real-time signals."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRT{number - 32}"
