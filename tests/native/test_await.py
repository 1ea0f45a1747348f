"""The library in which interpreters of a sandbox wait, in a program of ours under sanitizers."""

import ctypes
import errno
import os
import re
import select
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sandboxd.native import Armed, EndOfStream, ExecOrder, Failed, receive, send_exec
from sandboxd.native.core import _DIRECTORY, AWAIT_MODULE
from tests.native.box import WITHIN, order
from tests.native.echo import Echo, names, text

NATIVE = Path(__file__).parents[2] / "sandboxd" / "native"
SOURCES = ("await.c", "order.c", "files.c", "wire.c")
FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-fno-sanitize-recover=all")
ENV = {"ASAN_OPTIONS": "exitcode=99:detect_leaks=0", "UNWANTED": "1"}
MESSAGE, HEAD = 131_128, 56

pytestmark = pytest.mark.unsanitized("built with sanitizers of its own")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("await") / "awaiting"
    subprocess.run(
        ["gcc", *FLAGS, "-fsanitize=address,undefined", f"-I{NATIVE}", "-o", target,
         Path(__file__).parent / "inside" / "awaiting.c", *(NATIVE / name for name in SOURCES)],
        check=True,
    )  # fmt: skip
    return target


class Waiting:
    """One that has said that it is ready. `line` is the host's end of its socket."""

    def __init__(self, pid: int, line: socket.socket, work: Path) -> None:
        self.pid, self.line, self.work = pid, line, work
        self.code: int | None = None

    def obey(self, order: ExecOrder, stdin: bytes | None = b"") -> Echo:
        """What it was given, as it says; it must end well."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as given:
            given.write(stdin or b"")
            given.seek(0)
            self.send(order, None if stdin is None else given.fileno(), out.fileno())
            assert (self.ended(), receive(self.line.fileno())) == (0, EndOfStream())
            out.seek(0)
            return Echo(out.read())

    def send(self, order: ExecOrder, stdin: int | None = None, out: int = 1) -> None:
        send_exec(self.line.fileno(), order, stdin, out, 2)

    def ended(self) -> int:
        """Its exit code; negative for a signal."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    def failure(self) -> Failed:
        assert self.ended() == 127
        message = receive(self.line.fileno())
        assert isinstance(message, Failed)
        return message


@contextmanager
def waiting(program: Path) -> Iterator[Waiting]:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, tempfile.TemporaryDirectory() as work:
        with its:
            actions = [(os.POSIX_SPAWN_DUP2, its.fileno(), 3)]
            pid = os.posix_spawn(program, [program], ENV, file_actions=actions)
        found = Waiting(pid, ours, Path(work))
        try:
            select.select([ours], [], [], WITHIN)
            assert isinstance(receive(ours.fileno()), Armed)
            yield found
        finally:
            ours.close()
            found.ended()


def message_of(order: ExecOrder) -> bytearray:
    """As the host sends it, without its descriptors."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, its:
        send_exec(ours.fileno(), order, 0, 1, 2)
        message, fds, _, _ = socket.recv_fds(its, MESSAGE, 4)
        for fd in fds:
            os.close(fd)
        return bytearray(message)


@settings(max_examples=15, deadline=None)
@given(
    args=st.lists(text(max_size=50), max_size=12),
    env=st.dictionaries(names, text(max_size=50), max_size=8),
    contents=st.dictionaries(
        names, st.tuples(st.sampled_from([0o600, 0o755, 0o4777]), st.binary())
    ),
    large=st.booleans(),
)
def test_an_order_arrives_byte_for_byte(
    program: Path,
    args: list[str],
    env: dict[str, str],
    contents: dict[str, tuple[int, bytes]],
    large: bool,
) -> None:
    files = [(f"d/{name}/{name}", mode, data) for name, (mode, data) in contents.items()]
    files += [("large", 0o644, b"x" * 150_000)] * large
    with waiting(program) as waits:
        given = b"".join(os.fsencode(path) + b"\0" for path, _, _ in files)
        echo = waits.obey(order(["echo", *args], env, files, cwd=str(waits.work)), given)
    assert echo.items() == [b"echo", *map(os.fsencode, args)]
    assert echo.items() == [os.fsencode(f"{name}={value}") for name, value in env.items()]
    for _, mode, data in files:
        assert (echo.number(), echo.item()) == (mode & 0o755, data)
    assert echo.over


def test_without_stdin_there_is_an_empty_one(program: Path) -> None:
    with waiting(program) as waits:
        echo = waits.obey(order(["echo"], {}, [], cwd=str(waits.work)), None)
        assert (echo.items(), echo.items(), echo.over) == ([b"echo"], [], True)


@pytest.mark.parametrize("path", ["../out", "/out", "d/../../out", "link/out", "there", "d//"])
def test_a_file_that_would_lie_elsewhere_is_refused_by_its_number(program: Path, path: str) -> None:
    with waiting(program) as waits:
        (waits.work / "link").symlink_to("/tmp")
        (waits.work / "there").touch()
        waits.send(
            order(["echo"], {}, [("first", 0o644, b""), (path, 0o644, b"x")], cwd=str(waits.work))
        )
        failed = waits.failure()
    assert (failed.stage, failed.index) == ("files", 1)


def test_a_directory_that_is_not_there_is_named(program: Path) -> None:
    with waiting(program) as waits:
        waits.send(order(["echo"], {}, [], cwd="/nowhere"))
        failed = waits.failure()
    assert (failed.stage, failed.errno) == ("cwd", errno.ENOENT)


@pytest.mark.parametrize("change", [{"terminal": (24, 80)}, {"warm": True}], ids=str)
def test_what_a_runner_alone_can_do_is_refused(program: Path, change: dict[str, object]) -> None:
    with waiting(program) as waits:
        waits.send(replace(order(["echo"], {}, [], cwd="/"), **change))
        failed = waits.failure()
    assert (failed.stage, failed.errno) == ("receive", errno.EPROTO)


def test_one_that_nobody_wants_ends(program: Path) -> None:
    with waiting(program) as waits:
        waits.line.close()
        assert waits.ended() == 0


@settings(max_examples=60, deadline=None)
@given(
    places=st.dictionaries(st.integers(0, 299), st.integers(0, 255), max_size=4),
    numbers=st.dictionaries(st.integers(1, 5), st.integers(0, 1 << 32) | st.just(3), max_size=2),
    size=st.none() | st.integers(1, 300),
    fds=st.integers(0, 4),
)
def test_no_message_breaks_it(
    program: Path,
    places: dict[int, int],
    numbers: dict[int, int],
    size: int | None,
    fds: int,
) -> None:
    """It does what it was told or says why not: no signal, nothing that a sanitizer would report."""
    orders = order(["echo", "one"], {"A": "b"}, [("d/f", 0o644, b"content")])
    with waiting(program) as waits, Path("/dev/null").open("r+b") as null:
        message = message_of(replace(orders, cwd=str(waits.work)))
        for at, value in places.items():
            message[at % len(message)] = value
        for word, number in numbers.items():  # the flags, the counts and the size of the body
            message[4 * word : 4 * word + 4] = (number % (1 << 32)).to_bytes(4, "little")
        socket.send_fds(waits.line, [message[:size]], [null.fileno()] * fds)
        assert waits.ended() == 0 or waits.failure()


def test_any_interpreter_of_any_image_can_load_it() -> None:
    """Node's functions are not asked for, and those of the C library are older than Debian 8's."""
    assert ctypes.CDLL(str(AWAIT_MODULE)).sandboxd_await
    versions = re.findall(rb"GLIBC_2\.(\d+)", AWAIT_MODULE.read_bytes())
    assert max(map(int, versions)) <= 19
    assert AWAIT_MODULE.parent == _DIRECTORY
