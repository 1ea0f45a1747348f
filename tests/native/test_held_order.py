"""An order that is held: everything but the exec happens before the last word, nothing of the job."""

import errno
import os
import select
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from sandboxd.native import Exited, Failed, Native, receive, send_exec, send_go
from sandboxd.native.core import ABI
from tests.native.box import Workshop, order

pytestmark = pytest.mark.root

WITHIN = 10.0
"""Seconds."""
MADE = ("made", 0o644, b"x")


def hold(native: Native, files: Sequence[tuple[str, int, bytes]] = (MADE,)) -> int:
    """An order of `echo` that is prepared; where its output comes, to be closed."""
    out, child = os.pipe2(os.O_CLOEXEC)
    send_exec(native.exec, order(["/bin/echo", "ran"], {}, files), None, child, child, hold=True)
    os.close(child)
    made = Path(f"/proc/{native.pid}/root/work/made")
    deadline = time.monotonic() + WITHIN
    while not made.exists():
        assert time.monotonic() < deadline, "its file was not written"
        time.sleep(0.002)
    return out


def ended(native: Native) -> int:
    """The exit code of the runner, or of the program that it became."""
    assert select.select([native.control], [], [], WITHIN)[0]
    exited = receive(native.control)
    assert isinstance(exited, Exited)
    return os.waitstatus_to_exitcode(exited.status)


def told(out: int) -> bytes:
    """All that came out; nobody holds the other end any more."""
    with open(out, "rb") as whole:
        return whole.read()


def test_it_waits_for_the_word_and_runs_then(workshop: Workshop) -> None:
    with workshop.sandbox() as native:
        out = hold(native)
        assert not select.select([out, native.control, native.exec], [], [], 0.2)[0]
        send_go(native.exec)
        assert ended(native) == 0
        assert told(out) == b"ran\n"


def test_the_socket_s_end_instead_is_its_end(workshop: Workshop) -> None:
    with workshop.sandbox() as native:
        out = hold(native)
        with socket.socket(fileno=os.dup(native.exec)) as line:
            line.shutdown(socket.SHUT_RDWR)
        assert ended(native) == 0
        assert told(out) == b""


@pytest.mark.parametrize("word", [b"x", bytes([20, ABI + 1, 0, 0]), bytes([20, ABI, 0, 0, 0])])
def test_another_word_is_refused(workshop: Workshop, word: bytes) -> None:
    with workshop.sandbox() as native:
        out = hold(native)
        os.write(native.exec, word)
        assert ended(native) == 127
        report = receive(native.exec)
        assert told(out) == b""
    assert isinstance(report, Failed) and report.stage == "receive"


def test_failure_is_told_after_the_word_that_it_might_have_crossed(workshop: Workshop) -> None:
    with workshop.sandbox() as native:
        out = hold(native, [MADE, ("../a", 0o644, b"")])
        assert not select.select([out, native.control, native.exec], [], [], 0.2)[0]
        send_go(native.exec)
        assert ended(native) == 127
        assert receive(native.exec) == Failed("files", errno.EXDEV, 1)
        assert told(out) == b""
