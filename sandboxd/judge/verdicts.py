"""From the way a program ended to the verdict on its case. Pure."""

from collections.abc import Iterable

from sandboxd.judge.checkers import Checked
from sandboxd.model.judgement import Verdict
from sandboxd.model.status import Status

_OF_STATUS = {
    Status.NONZERO_EXIT: Verdict.RUNTIME_ERROR,
    Status.SIGNALLED: Verdict.RUNTIME_ERROR,
    Status.SECURITY_VIOLATION: Verdict.RUNTIME_ERROR,
    Status.DISK_EXCEEDED: Verdict.RUNTIME_ERROR,
    Status.CPU_TIME_EXCEEDED: Verdict.TIME_LIMIT,
    Status.WALL_TIME_EXCEEDED: Verdict.TIME_LIMIT,
    Status.MEMORY_EXCEEDED: Verdict.MEMORY_LIMIT,
    Status.OUTPUT_EXCEEDED: Verdict.OUTPUT_LIMIT,
    Status.COMPILE_ERROR: Verdict.COMPILE_ERROR,
    Status.CANCELLED: Verdict.INTERNAL_ERROR,
    Status.INTERNAL_ERROR: Verdict.INTERNAL_ERROR,
}


def of_status(status: Status) -> Verdict | None:
    """The verdict that a program's end decides by itself; None: its output decides."""
    return _OF_STATUS.get(status)


def of_interaction(program: Status, interactor: Checked, *, interactor_first: bool) -> Checked:
    """One verdict of two programs that talked to each other.

    * An interactor that rejected, or failed, before the program ended is believed: what becomes of
      the program then (it reads an end of file, or writes where nobody reads) is a consequence.
    * Otherwise a program's own bad end is its verdict, a limit as well as a crash: what the
      interactor then misses is a consequence.
    * A program that waits for an interactor that waits for it breaks its limit of wall time.
    * If the program ended well, the interactor decides; one that hangs then has failed.
    """
    own = of_status(program)
    if own is None or (interactor_first and interactor.verdict is not Verdict.ACCEPTED):
        return interactor
    return Checked(own, 0.0, interactor.message)


def first_failure(verdicts: Iterable[Verdict | None]) -> Verdict:
    """The verdict of cases in order: that of the first which was not accepted. None: left out."""
    for verdict in verdicts:
        if verdict is not None and verdict is not Verdict.ACCEPTED:
            return verdict
    return Verdict.ACCEPTED
