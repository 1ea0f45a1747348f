"""An order that cannot be carried out says why, and garbage is no order."""

import errno
import fcntl
import os
import select
import signal
import socket
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandboxd.native import Exited, Failed, receive, send_quiesce
from sandboxd.native.core import ABI, ffi, lib
from tests.native.box import MIB, Ran, Workshop, order, run

pytestmark = pytest.mark.root

EXIT_FAILED = 127 << 8

FILES_FAIL = {
    "given twice": ([("a", 0o644, b""), ("a", 0o644, b"")], errno.EEXIST, 1),
    "through a file": ([("a", 0o644, b""), ("a/b", 0o644, b"")], errno.ENOTDIR, 1),
    "a directory": ([("a/b", 0o644, b""), ("a", 0o644, b"")], errno.EEXIST, 1),
    "over the disk": ([("a", 0o644, b"x" * (3 * MIB))], errno.ENOSPC, 0),
    "over the inodes": ([(str(i), 0o644, b"") for i in range(999)], errno.ENOSPC, None),
    "name too long": ([("a" * 300, 0o644, b"")], errno.ENAMETOOLONG, 0),
    "upwards": ([("../a", 0o644, b"")], errno.EXDEV, 0),
    "absolute": ([("/etc/a", 0o644, b"")], errno.EXDEV, 0),
    "up and down": ([("d/../../etc/a", 0o644, b"")], errno.EXDEV, None),
    "empty": ([("", 0o644, b"")], None, 0),
}


@pytest.mark.parametrize("case", FILES_FAIL)
def test_file_that_cannot_be_written_is_named(workshop: Workshop, case: str) -> None:
    files, number, index = FILES_FAIL[case]
    with workshop.sandbox(disk=2 * MIB, inodes=512) as native:
        ran = run(native, ["/bin/true"], {}, files)
    assert ran.failed is not None and ran.failed.stage == "files"
    assert number is None or ran.failed.errno == number
    assert index is None or ran.failed.index == index
    assert ran.status == EXIT_FAILED


EXEC_FAIL = {
    "no such path": (["./nothing"], errno.ENOENT),
    "no such name": (["no-such-command"], errno.ENOENT),
    "not executable": (["./data"], errno.EACCES),
    "a directory": (["/usr"], errno.EACCES),
    "no program": (["./noise"], errno.ENOEXEC),
    "no interpreter": (["./script"], errno.ENOENT),
    "empty": ([""], errno.ENOENT),
    "below a file": (["./data/x"], errno.ENOTDIR),
    "name too long": (["./" + "x" * 300], errno.ENAMETOOLONG),
    "argument too long": (["/bin/true", "x" * 200_000], errno.E2BIG),
}


@pytest.mark.parametrize("case", EXEC_FAIL)
def test_command_that_cannot_be_executed_is_an_exec_failure(workshop: Workshop, case: str) -> None:
    argv, number = EXEC_FAIL[case]
    files = [
        ("data", 0o644, b"#!/bin/sh\n"),
        ("noise", 0o755, b"\x01\x02\x03 not a program"),
        ("script", 0o755, b"#!/no/interpreter\n"),
    ]
    with workshop.sandbox() as native:
        ran = run(native, argv, {}, files)
    assert ran.failed is not None
    assert (ran.failed.stage, ran.failed.errno) == ("exec", number)
    assert (ran.status, ran.stdout, ran.stderr) == (EXIT_FAILED, b"", b"")


@pytest.mark.parametrize(
    ("cwd", "number"),
    [("/nothing", errno.ENOENT), ("/bin/true", errno.ENOTDIR), ("", errno.ENOENT)],
)
def test_working_directory_that_is_none_is_a_cwd_failure(
    workshop: Workshop, cwd: str, number: int
) -> None:
    with workshop.sandbox() as native:
        ran = run(native, ["/bin/true"], cwd=cwd)
    assert ran.failed is not None
    assert (ran.failed.stage, ran.failed.errno) == ("cwd", number)


@pytest.mark.parametrize("argv", [[], ["x"] * 1025])
def test_argument_count_out_of_bounds_is_refused(workshop: Workshop, argv: list[str]) -> None:
    with workshop.sandbox() as native:
        ran = run(native, argv)
    assert ran.failed is not None and (ran.failed.stage, ran.failed.errno) == (
        "receive",
        errno.E2BIG,
    )


def test_rlimit_above_what_the_node_may_give_is_named(workshop: Workshop) -> None:
    with workshop.sandbox() as native:
        ran = run(native, ["/bin/true"], open_files=1 << 40)
    assert ran.failed is not None and ran.failed.stage == "rlimits"


def test_path_that_leaves_makes_no_directory_on_its_way(workshop: Workshop) -> None:
    with workshop.sandbox() as native:
        ran = run(native, ["/bin/true"], files=[("a/../../tmp/made/x", 0o644, b"")])
        left = os.open(f"/proc/{native.pid}/root/tmp", os.O_RDONLY)
        try:
            assert os.listdir(left) == []
        finally:
            os.close(left)
    assert ran.failed is not None and (ran.failed.stage, ran.failed.errno) == ("files", errno.EXDEV)


@pytest.mark.parametrize("fault", ["unsealed", "short"])
def test_body_in_a_file_that_could_change_under_the_reader_is_refused(
    workshop: Workshop, fault: str
) -> None:
    body = order(["/bin/true"]).body()
    head = struct.pack("<BBHIIIIIQQQHHI", 6, ABI, 0, 3, 1, 0, 0, len(body), 64, MIB, MIB, 0, 0, 0)
    memory = os.memfd_create("body", os.MFD_ALLOW_SEALING)
    os.write(memory, body[:-1] if fault == "short" else body)
    if fault == "short":
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE)
    with workshop.sandbox() as native, open("/dev/null", "wb") as null:
        line = socket.socket(fileno=os.dup(native.exec))
        with line:
            socket.send_fds(line, [head], [null.fileno(), null.fileno(), memory])
        ran = _awaited(native.control, native.exec)
    os.close(memory)
    assert ran.failed is not None
    assert (ran.failed.stage, ran.failed.errno) == ("receive", errno.EPROTO)


@pytest.mark.parametrize("message", [b"", b"x", b"\x06\x01", b"\x06\x01\0\0" + b"\xff" * 44])
def test_garbage_instead_of_an_order_is_refused(workshop: Workshop, message: bytes) -> None:
    with workshop.sandbox() as native:
        os.write(native.exec, message)
        ran = _awaited(native.control, native.exec)
    if message:
        assert ran.failed is not None
        assert (ran.failed.stage, ran.failed.errno) == ("receive", errno.EPROTO)
    else:  # as the end of the stream: the sandbox is discarded
        assert (ran.failed, ran.status) == (None, 0)


def _awaited(control: int, exec_fd: int) -> Ran:
    assert select.select([control], [], [], 10)[0]
    message = receive(control)
    assert isinstance(message, Exited)
    last = receive(exec_fd)
    return Ran(
        status=message.status,
        stdout=b"",
        stderr=b"",
        failed=last if isinstance(last, Failed) else None,
    )


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 40),
    counts=st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)),
)
def test_mutated_order_ends_the_runner_with_a_word(
    workshop: Workshop,
    edits: list[tuple[int, int]],
    cut: int,
    counts: tuple[int, int, int],
) -> None:
    body = bytearray(order(["/bin/true", "x"], {"A": "b"}, [("f", 0o644, b"data")]).body())
    for position, byte in edits:
        body[position % len(body)] = byte
    data = bytes(body[: len(body) - cut])
    head = ffi.new("struct sbx_exec *")
    head.flags, head.open_files, head.stack, head.file_size = 1, 64, MIB, MIB
    head.argc, head.envc, head.filec = counts
    with workshop.sandbox() as native, open("/dev/null", "wb") as null:
        fds = [null.fileno()] * 2
        assert lib.sbx_exec_send(native.exec, head, data, len(data), fds, 2) == 0
        ran = _awaited(native.control, native.exec)
    # Executed or refused; never a crash of the runner.
    assert ran.failed is not None or os.WIFEXITED(ran.status)
    assert os.WIFEXITED(ran.status) or os.WTERMSIG(ran.status) != signal.SIGSEGV


def test_end_of_the_control_socket_ends_the_sandbox(workshop: Workshop) -> None:
    with workshop.sandbox() as native:
        spare = os.dup(native.control)
        os.close(native.control)
        os.dup2(os.open("/dev/null", os.O_RDONLY), native.control)
        os.close(spare)
        assert select.select([native.pidfd], [], [], 10)[0]


def test_garbage_on_the_control_socket_ends_the_sandbox(workshop: Workshop) -> None:
    with workshop.sandbox() as native:
        os.write(native.control, b"\xff" * 8)
        assert select.select([native.pidfd], [], [], 10)[0]


def test_quiesce_ends_a_runner_that_has_no_order_yet(workshop: Workshop) -> None:
    with workshop.sandbox() as native:
        send_quiesce(native.control)
        assert os.WTERMSIG(_awaited(native.control, native.exec).status) == signal.SIGKILL
