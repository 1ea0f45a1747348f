"""A sandbox that lives on: every later process is locked down as the first, and stays addressable."""

import errno
import os
import select
import signal
import time
from collections.abc import Iterator

import pytest

from sandboxd.native import (
    EndOfStream,
    Exited,
    Failed,
    Native,
    Spawned,
    Terminal,
    send_exec,
    send_signal,
    send_spawn,
)
from tests.native.box import Workshop, awaited, order, run, spawn

pytestmark = pytest.mark.root

STATUS = (
    "import os,re;s=open('/proc/self/status').read();"
    "print(*[re.search(n+r':[ \\t]*(.*)',s)[1] for n in "
    "('Uid','Gid','CapPrm','CapEff','CapBnd','CapInh','CapAmb','NoNewPrivs','Seccomp','Groups')],"
    "open('/proc/self/oom_score_adj').read().strip(),sep='|')"
)


@pytest.fixture
def session(workshop: Workshop) -> Iterator[Native]:
    with workshop.sandbox(session=True) as native:
        yield native


def out(native: Native, exec_fd: int, argv: list[str], number: int) -> tuple[bytes, Exited]:
    """Run on an armed runner to its end: stdout, and its end."""
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    send_exec(exec_fd, order(argv, {"PATH": "/usr/bin:/bin"}), None, theirs, theirs)
    os.close(theirs)
    data = b""
    while True:
        ready, _, _ = select.select([ours], [], [], 20)
        assert ready, data
        chunk = os.read(ours, 65536)
        if not chunk:
            break
        data += chunk
    os.close(ours)
    end = awaited(native.control)
    assert isinstance(end, Exited) and end.id == number, end
    os.close(exec_fd)
    return data, end


def test_a_later_process_is_locked_down_as_the_first(session: Native) -> None:
    first = run(session, ["/usr/bin/python3", "-IS", "-c", STATUS]).out()
    later, end = out(session, spawn(session, 5), ["/usr/bin/python3", "-IS", "-c", STATUS], 5)
    assert later == first
    assert b"0000000000000000|0000000000000000|0000000000000000" in later
    assert later.strip().endswith(b"|1000")
    assert end.status == 0 and end.cpu_time > 0 and end.max_rss > 1 << 20


@pytest.mark.parametrize("layer", ["capabilities", "seccomp", "no_new_privs", "landlock"])
def test_a_later_process_reports_its_own_layers(workshop: Workshop, layer: str) -> None:
    """The kernel says so itself, in the process that was spawned."""
    code = (
        "import ctypes;l=ctypes.CDLL(None,use_errno=True);"
        + {
            "capabilities": "r=l.syscall(161,b'/');e=ctypes.get_errno();print(r,e)",
            "seccomp": "r=l.syscall(250,1,0);e=ctypes.get_errno();print(r,e)",
            "no_new_privs": "print(l.prctl(39,0,0,0,0)-1,1)",
            "landlock": "open('/opt/open/x','w')",
        }[layer]
    )
    with workshop.sandbox(session=True) as native:
        data, end = out(native, spawn(native, 9), ["/usr/bin/python3", "-IS", "-c", code], 9)
    if layer == "landlock":  # the image is below the upper directory: a session may write there
        assert end.status == 0, data
    elif layer == "no_new_privs":
        assert data == b"0 1\n"
    else:
        assert data.startswith(b"-1 ") and int(data.split()[1]) in (errno.EPERM, errno.ENOSYS)


def test_processes_are_signalled_by_number_with_their_group(session: Native) -> None:
    line = spawn(session, 3)
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    script = "sleep 60 & echo up; wait"
    send_exec(line, order(["/bin/sh", "-c", script], {}), None, theirs, theirs)
    os.close(theirs)
    assert os.read(ours, 16) == b"up\n"
    send_signal(session.control, 4, signal.SIGKILL)  # nobody has this number
    send_signal(session.control, 3, signal.SIGTERM)
    end = awaited(session.control)
    assert isinstance(end, Exited) and (end.id, end.status) == (3, signal.SIGTERM)
    ready, _, _ = select.select([ours], [], [], 10)
    assert ready and os.read(ours, 16) == b"", "the child in its group held the pipe"
    send_signal(session.control, 3, signal.SIGKILL)  # reaped: its number is nobody's
    os.close(ours)
    os.close(line)
    assert out(session, spawn(session, 3), ["/bin/echo", "again"], 3)[0] == b"again\n"


def test_a_number_that_lives_is_refused(session: Native) -> None:
    line = spawn(session, 7)
    send_spawn(session.control, 7, line)
    assert awaited(session.control) == Spawned(7, 0, errno.EEXIST)
    send_spawn(session.control, 0, line)
    assert awaited(session.control) == Spawned(0, 0, errno.EEXIST)
    os.close(line)
    end = awaited(session.control)
    assert isinstance(end, Exited) and (end.id, end.status) == (7, 0), "an unused runner just goes"


def test_no_fork_left_is_said(workshop: Workshop) -> None:
    with workshop.sandbox(session=True, pids=3) as native:
        line = spawn(native, 1)
        send_spawn(native.control, 2, line)
        assert awaited(native.control) == Spawned(2, 0, errno.EAGAIN)
        os.close(line)


def test_a_run_takes_no_more_processes(workshop: Workshop) -> None:
    with workshop.sandbox() as native:
        null = os.open("/dev/null", os.O_RDWR)
        send_spawn(native.control, 1, null)
        os.close(null)
        assert isinstance(awaited(native.control), EndOfStream), (
            "init ends at what it does not know"
        )


def test_a_terminal_is_the_jobs_own_and_its_master_comes_out(session: Native) -> None:
    line = spawn(session, 2)
    script = "stty size; tty; test -t 0 && test -t 1 && test -t 2 && echo three; ls -ln /dev/pts"
    argv = ["/bin/sh", "-c", script + "; cat; echo gone"]
    send_exec(line, order(argv, {"PATH": "/usr/bin:/bin"}, terminal=(33, 121)), None, -1, -1)
    made = awaited(line)
    assert isinstance(made, Terminal)
    assert isinstance(awaited(line), EndOfStream), "the socket closes as the program starts"
    text = _until(made.fd, b"ptmx")
    assert b"33 121\r\n/dev/pts/0\r\nthree\r\n" in text
    assert b" 1000 " in text
    os.write(made.fd, b"\x04")
    assert b"gone" in _until(made.fd, b"gone")
    end = awaited(session.control)
    assert isinstance(end, Exited) and end.status == 0
    os.close(made.fd)
    os.close(line)


def _until(fd: int, text: bytes) -> bytes:
    data = b""
    deadline = time.monotonic() + 10
    while text not in data:
        ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
        assert ready, data
        data += os.read(fd, 4096)
    return data


def test_a_terminal_that_goes_hangs_up_on_its_program(session: Native) -> None:
    line = spawn(session, 2)
    send_exec(line, order(["/bin/sleep", "60"], {}, terminal=(24, 80)), None, -1, -1)
    made = awaited(line)
    assert isinstance(made, Terminal)
    assert isinstance(awaited(line), EndOfStream)
    os.close(made.fd)
    end = awaited(session.control)
    assert isinstance(end, Exited) and end.status == signal.SIGHUP
    os.close(line)


def test_there_are_no_terminals_without_a_session(workshop: Workshop) -> None:
    with workshop.sandbox() as native:
        send_exec(native.exec, order(["/bin/true"], {}, terminal=(24, 80)), None, -1, -1)
        failed = awaited(native.exec)
        assert isinstance(failed, Failed) and (failed.stage, failed.errno) == ("fds", errno.ENOENT)


def test_the_job_cannot_trace_who_is_about_to_become_it(session: Native) -> None:
    """The armed runner has the job's uid, and no filter of a program yet to come protects it."""
    line = spawn(session, 2)
    code = (
        "import os,ctypes;l=ctypes.CDLL(None,use_errno=True);n=0\n"
        "for p in [int(p) for p in os.listdir('/proc') if p.isdigit() and int(p)!=os.getpid()]:\n"
        "    l.ptrace(0x4206,p,0,0);n+=1;print(p,ctypes.get_errno())\n"
        "for p in range(1,6):\n"
        "    if p!=os.getpid(): print(l.ptrace(0x4206,p,0,0),ctypes.get_errno())"
    )
    data, _ = out(session, spawn(session, 3), ["/usr/bin/python3", "-IS", "-c", code], 3)
    lines = data.decode().split("\n")[:-1]
    assert lines and all(line.startswith("-1 ") and line != "-1 0" for line in lines), data
    os.close(line)


def test_processes_of_a_session_may_signal_each_other(session: Native) -> None:
    line = spawn(session, 2)
    send_exec(line, order(["/bin/sleep", "60"], {}), None, *(null := [os.open("/dev/null", 1)] * 2))
    os.close(null[0])
    assert isinstance(awaited(line), EndOfStream)
    other = spawn(session, 3)
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    send_exec(other, order(["/bin/kill", "-9", "-1"], {}), None, theirs, theirs)
    os.close(theirs)
    ends = {}
    for _ in range(3):  # the first runner, still unused, is the job's too
        end = awaited(session.control)
        assert isinstance(end, Exited)
        ends[end.id] = end.status
        if len(ends) == 3:
            break
    assert ends[2] == signal.SIGKILL
    for fd in (ours, line, other):
        os.close(fd)
