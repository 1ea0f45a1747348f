"""A session with a root: uid 0 of its own user namespace, which has power over its files and processes
and over nothing else."""

import errno
import os
import signal
from collections.abc import Iterator

import pytest

from sandboxd.errors import NativeFault
from sandboxd.native import Exited, Native, Spawned, build, send_exec, send_signal, send_spawn
from tests.native.box import INIT_UID, JOB_UID, Workshop, awaited, order, run, spawn, without
from tests.native.test_session import STATUS, out

pytestmark = pytest.mark.root

LAST = 65_535
"""Init's, the last id of a range."""
FIRST = JOB_UID - 1000
"""Of the host's range."""
CAPABILITIES = f"{0xFB:016x}"
"""chown, dac_override, fowner, fsetid, kill, setgid, setuid."""
ROOTED = {"session": True, "root": True, "init_uid": LAST, "host_init_uid": FIRST + LAST}

ESCAPES = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
    ctypes.set_errno(0)
    result = getattr(libc, name)(*args)
    print(name, *args[-2:], errno.errorcode.get(ctypes.get_errno(), result))
def attempt(name, function, *args):
    try:
        print(name, function(*args))
    except OSError as error:
        print(name, errno.errorcode[error.errno])
def write(path, text=b"0"):
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, text)
    return "written"
call("mount", b"none", b"/tmp", b"tmpfs", 0, None)
call("umount2", b"/proc", 2)
call("unshare", 0x10000000)
call("unshare", 0x20000)
call("setns", os.open("/proc/self/ns/net", os.O_RDONLY), 0)
call("chroot", b"/tmp")
call("mknod", b"/tmp/disk", 0o60600, 0x800)
call("mknod", b"/tmp/white", 0o20600, 0)
call("ptrace", 16, 1, 0, 0)
call("chown", b"/tmp", 65536, 65536)
call("setuid", 70000)
call("sethostname", b"x", 1)
call("syscall", 250, 0, -3, 0)
call("swapon", b"/tmp", 0)
call("setpriority", 0, 0, -5)
attempt("core_pattern", write, "/proc/sys/kernel/core_pattern")
attempt("uid_map", write, "/proc/self/uid_map", b"0 0 1")
attempt("usr", os.mkdir, "/usr/x")
attempt("dev", os.mkdir, "/dev/x")
attempt("proc/1", os.listdir, "/proc/1")
attempt("trusted", os.setxattr, "/tmp", "trusted.overlay.opaque", b"y")
open("/tmp/f", "w").close()
capability = bytes.fromhex("0100000280000000000000008000000000000000")
attempt("file capability", os.setxattr, "/tmp/f", "security.capability", capability)
"""
REFUSED = """mount 0 None EPERM
umount2 b'/proc' 2 EPERM
unshare 268435456 EPERM
unshare 131072 EPERM
setns 3 0 EPERM
chroot b'/tmp' EPERM
mknod 24960 2048 EPERM
mknod 8576 0 EPERM
ptrace 0 0 EPERM
chown 65536 65536 EINVAL
setuid 70000 EINVAL
sethostname b'x' 1 EPERM
syscall -3 0 EPERM
swapon b'/tmp' 0 EPERM
setpriority 0 -5 EACCES
core_pattern EACCES
uid_map EPERM
usr EROFS
dev EROFS
proc/1 ENOENT
trusted EPERM
file capability EPERM
"""


@pytest.fixture
def rooted(workshop: Workshop) -> Iterator[Native]:
    with workshop.sandbox(**ROOTED) as native:
        yield native


def shell(native: Native, number: int, script: str, *, root: bool) -> str:
    line = spawn(native, number, root=root)
    return out(native, line, ["/bin/sh", "-c", f"{script} 2>&1"], number)[0].decode()


def python(native: Native, number: int, code: str, *, root: bool = True) -> str:
    argv = ["/usr/bin/python3", "-IS", "-c", code]
    return out(native, spawn(native, number, root=root), argv, number)[0].decode()


def test_root_has_the_seven_and_no_more(rooted: Native) -> None:
    uids, gids, *sets, privileges, seccomp, groups, oom = python(rooted, 5, STATUS).split("|")
    assert uids.split() == gids.split() == ["0"] * 4
    assert sets == [CAPABILITIES] * 3 + [f"{0:016x}"] * 2
    assert (privileges, seccomp, groups.strip(), oom.strip()) == ("1", "2", "", "1000")


def test_its_user_is_confined_as_in_a_session_without_root(
    workshop: Workshop, rooted: Native
) -> None:
    first = run(rooted, ["/usr/bin/python3", "-IS", "-c", STATUS]).out().decode()
    with workshop.sandbox(session=True) as other:
        without_root = run(other, ["/usr/bin/python3", "-IS", "-c", STATUS]).out().decode()
    assert first == python(rooted, 6, STATUS, root=False) == without_root


def test_root_finds_no_way_out(rooted: Native) -> None:
    assert python(rooted, 5, ESCAPES) == REFUSED


@pytest.mark.parametrize(
    ("layers", "opened"),
    [
        (("seccomp", "floor"), "syscall -3 0"),  # a keyring: no capability guards it
        (("seccomp", "capabilities"), "chroot b'/tmp'"),
        (("userns", "identity"), "chown 65536 65536"),
    ],
    ids=["seccomp", "capabilities", "userns"],
)
def test_what_holds_root(workshop: Workshop, layers: tuple[str, ...], opened: str) -> None:
    """What is left out had closed this."""
    with workshop.sandbox(**ROOTED, skip_layers=without(*layers)) as native:
        lines = python(native, 5, ESCAPES).splitlines()
    line = next(line for line in lines if line.startswith(opened))
    assert line.removeprefix(opened).strip().isdigit(), lines


def test_files_belong_to_two(rooted: Native) -> None:
    assert (
        shell(rooted, 5, "echo r > /root/f; echo r > /f; umask 077; echo r > /tmp/f", root=True)
        == ""
    )
    assert shell(rooted, 6, "cat /f; echo u > /home/user/f; echo x > /f", root=False).startswith(
        "r\n/bin/sh"
    )
    assert "Permission denied" in shell(rooted, 7, "cat /root/f", root=False)
    assert "not permitted" in shell(rooted, 8, "chown 0 /home/user/f", root=False)
    assert "not permitted" in shell(rooted, 9, "rm /tmp/f", root=False)
    script = "stat -c '%u %g' /f /home/user/f; chown 1:2 /f; stat -c '%u %g' /f"
    assert shell(rooted, 10, script, root=True) == "0 0\n1000 1000\n1 2\n"


def test_on_the_host_they_belong_to_its_range(rooted: Native) -> None:
    shell(rooted, 5, "touch /a; touch /b; chown 1000:1 /b; chmod 6755 /a", root=True)
    upper = os.open("upper", os.O_PATH, dir_fd=rooted.scratch)
    try:
        a, b = (os.stat(name, dir_fd=upper) for name in ("a", "b"))
    finally:
        os.close(upper)
    assert (a.st_uid, a.st_gid) == (FIRST, FIRST)
    assert (b.st_uid, b.st_gid) == (FIRST + 1000, FIRST + 1)


def test_root_ends_the_users_processes_and_not_the_other_way(rooted: Native) -> None:
    own = spawn(rooted, 5, root=True)  # waits for its order
    other = spawn(rooted, 6)
    assert "not permitted" in shell(rooted, 8, "kill -9 3", root=False)
    line, null = spawn(rooted, 9, root=True), os.open("/dev/null", os.O_WRONLY)
    send_exec(line, order(["/bin/sh", "-c", "kill -9 4; kill -9 1"], {}), None, null, null)
    ended = {
        (end.id, end.status)
        for end in (awaited(rooted.control), awaited(rooted.control))
        if isinstance(end, Exited)
    }
    assert ended == {(6, signal.SIGKILL), (9, 0)}
    send_signal(rooted.control, 5, signal.SIGKILL)
    last = awaited(rooted.control)  # init may end what root has begun
    assert isinstance(last, Exited) and (last.id, last.status) == (5, signal.SIGKILL)
    for fd in (own, other, line, null):
        os.close(fd)


def test_a_set_user_id_program_of_roots_gives_its_user_nothing(rooted: Native) -> None:
    shell(rooted, 5, "cp /usr/bin/python3 /py; chmod 4755 /py", root=True)
    code = "import os;print(os.getresuid())"
    assert shell(rooted, 6, f"/py -IS -c '{code}'", root=False) == "(1000, 1000, 1000)\n"


def test_root_that_became_the_user_stays_it(rooted: Native) -> None:
    code = """
import os
os.setgroups([]); os.setresgid(1000, 1000, 1000); os.setresuid(1000, 1000, 1000)
try: os.setuid(0)
except OSError as error: print(error.errno, flush=True)
os.execv("/bin/sh", ["sh", "-c", "grep -E 'Cap(Prm|Eff)' /proc/self/status"])
"""
    said = python(rooted, 5, code).split()
    assert said[0] == str(errno.EPERM) and said[2] == said[4] == f"{0:016x}"


def test_root_is_refused_where_there_is_none(workshop: Workshop) -> None:
    with workshop.sandbox(session=True) as native:
        send_spawn(native.control, 5, native.exec, root=True)
        assert awaited(native.control) == Spawned(5, 0, errno.EPERM)


@pytest.mark.parametrize(
    "changes",
    [
        {"session": False},
        {"job_uid": 0, "host_job_uid": FIRST},
        {"host_init_uid": FIRST + LAST + 1},
        {"host_init_uid": INIT_UID},
        {"host_job_uid": 1000},
    ],
    ids=["run", "job", "hole", "order", "host"],
)
def test_ids_that_are_not_one_range_build_nothing(
    workshop: Workshop, changes: dict[str, int]
) -> None:
    with workshop.group() as group, pytest.raises(NativeFault, match="plan"):
        build(
            workshop.init_fd,
            workshop.plan(**(ROOTED | changes)),
            tasks=group.tasks,
            cgroup=group.directory,
        )
