"""The file service by its own messages: every op, and what is no message of ours. (What it does for a
session is in tests/node/sessions.)"""

import errno
import os
import select
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from sandboxd.native import Exited, Native
from sandboxd.native.core import ABI
from sandboxd.native.file_service import (
    APPEND,
    FOLLOW,
    KEEP,
    PARENTS,
    RECURSIVE,
    SET_MODE,
    XATTR,
    XATTRS,
    Filed,
    Op,
    encode,
    receive_answer,
    send_request,
)
from tests.native.box import Workshop, awaited, spawn

pytestmark = pytest.mark.root


class Service:
    def __init__(self, native: Native) -> None:
        self.native = native
        self.line = spawn(native, 1, files=True)
        self._open = ExitStack()  # also what a test that fails has left
        self._open.callback(os.close, self.line)

    def close(self) -> None:
        self._open.close()

    def ask(self, op: Op, *paths: bytes, **fields: Any) -> Filed:
        send_request(self.line, 7, op, *paths, **fields)
        answer = _answer(self.line)
        assert answer.id == 7
        return answer

    def work(
        self, op: Op, *paths: bytes, content: bytes | None = None, **fields: Any
    ) -> list[Filed]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._open.enter_context(ours)
        fds = [theirs.fileno()]
        read = write = -1
        if content is not None:
            read, write = os.pipe()
            fds.append(read)
        send_request(self.line, 8, op, *paths, fds=fds, **fields)
        theirs.close()
        if content is not None:
            os.close(read)
            os.write(write, content)
            os.close(write)
            ours.send(b"\1")
        answers = [_answer(ours.fileno())]
        while answers[-1].more and op is not Op.WATCH:
            answers.append(_answer(ours.fileno()))
        if op is Op.WATCH:
            self.watching = ours
        else:
            ours.close()
        return answers


def _answer(fd: int) -> Filed:
    while True:
        ready, _, _ = select.select([fd], [], [], 10)
        assert ready, "no answer within 10 s"
        if (answer := receive_answer(fd)) is not None:
            return answer


@pytest.fixture
def service(workshop: Workshop) -> Iterator[Service]:
    with workshop.sandbox(session=True) as native, closing(Service(native)) as service:
        yield service


def test_every_request_is_answered(service: Service) -> None:
    ask = service.ask
    assert ask(Op.MKDIR, b"d/e", mode=0o750).entries[0].mode == stat.S_IFDIR | 0o750
    assert ask(Op.PUT, b"d/e/f", content=b"hello", flags=PARENTS, mode=0o640).entries[0].size == 5
    assert ask(Op.STAT, b"d/e/f", flags=FOLLOW).entries[0].uid == 1000
    assert ask(Op.CHMOD, b"d/e/f", mode=0o600).entries[0].mode & 0o777 == 0o600
    opened = ask(Op.OPEN, b"/work/d/e/f")
    assert os.read(opened.fd, 99) == b"hello"
    with pytest.raises(OSError, match="Bad file"):
        os.write(opened.fd, b"x")
    os.close(opened.fd)
    assert ask(Op.MOVE, b"d/e/f", b"g").errno == 0
    ask(Op.PUT, b"h", content=b"")
    assert ask(Op.MOVE, b"g", b"h", flags=KEEP).errno == 17
    (written,) = service.work(Op.WRITE, b"big", content=b"x" * 60_000, mode=0o600, flags=SET_MODE)
    assert written.entries[0].size == 60_000
    (more,) = service.work(Op.WRITE, b"big", content=b"y" * 10, flags=APPEND, mode=0o644)
    assert more.entries[0].size == 60_010
    names = {e.name for a in service.work(Op.LIST, b".", mode=9, length=99) for e in a.entries}
    assert names == {b"d", b"d/e", b"g", b"h", b"big"}
    assert [a.count for a in service.work(Op.REMOVE, b"d")] == [2]
    assert ask(Op.UNLINK, b"g").count == 1
    assert ask(Op.STAT, b"g").errno == 2


def test_many_entries_take_many_messages(service: Service) -> None:
    for i in range(400):
        service.ask(Op.PUT, b"%s%d" % (b"n" * 200, i), content=b"")
    answers = service.work(Op.LIST, b".", mode=1, length=1000)
    assert len(answers) > 1
    assert sum(len(answer.entries) for answer in answers) == 400
    page = service.work(Op.LIST, b".", mode=1, offset=100, length=50)
    assert sum(len(answer.entries) for answer in page) == 50
    assert page[-1].count == 150


def _told(service: Service, last: bytes) -> list[bytes]:
    """The names of all changes up to that of `last`, in order."""
    names: list[bytes] = []
    while last not in names:
        names += [entry.name for entry in _answer(service.watching.fileno()).entries]
    return names


def test_changes_are_told_until_the_line_ends(service: Service) -> None:
    assert service.work(Op.WATCH, b".", flags=RECURSIVE)[0].count == 1
    service.ask(Op.MKDIR, b"a/b/c", mode=0o755)
    seen = _told(service, b"a/b/c")
    assert {b"a", b"a/b"} <= set(seen)
    service.ask(Op.PUT, b"a/b/c/f", content=b"x")
    service.ask(Op.MOVE, b"a/b", b"z")
    service.ask(Op.PUT, b"z/c/last", content=b"x")
    assert {b"a/b", b"z"} <= set(_told(service, b"z/c/last"))
    service.watching.close()


def test_what_is_in_a_directory_before_its_watch_is_told(service: Service) -> None:
    service.ask(Op.MKDIR, b"outside/deep", mode=0o755)
    service.ask(Op.PUT, b"outside/deep/f", content=b"x")
    service.ask(Op.MKDIR, b"tree", mode=0o755)
    assert service.work(Op.WATCH, b"tree", flags=RECURSIVE)[0].count == 1
    # To the watch this is as if much had been done in it before it was looked at.
    service.ask(Op.MOVE, b"outside", b"tree/here")
    assert {b"here", b"here/deep", b"here/deep/f"} <= set(_told(service, b"here/deep/f"))
    service.watching.close()


def test_a_directory_moved_within_the_tree_is_followed_and_not_told_anew(service: Service) -> None:
    service.ask(Op.MKDIR, b"a/deep", mode=0o755)
    service.ask(Op.PUT, b"a/deep/old", content=b"x")
    assert service.work(Op.WATCH, b".", flags=RECURSIVE)[0].count == 3
    service.ask(Op.MOVE, b"a", b"z")
    service.ask(Op.PUT, b"z/deep/new", content=b"x")
    names = _told(service, b"z/deep/new")
    assert {b"a", b"z"} <= set(names) and b"z/deep/old" not in names
    service.watching.close()


def test_a_directory_moved_out_of_the_tree_is_not_followed(service: Service) -> None:
    service.ask(Op.MKDIR, b"tree/gone", mode=0o755)
    assert service.work(Op.WATCH, b"tree", flags=RECURSIVE)[0].count == 2
    service.ask(Op.MOVE, b"tree/gone", b"away")
    service.ask(Op.PUT, b"away/secret", content=b"x")
    service.ask(Op.PUT, b"tree/last", content=b"x")
    assert not any(b"secret" in name for name in _told(service, b"last"))
    service.watching.close()


@pytest.mark.parametrize(
    "message",
    [
        b"x",
        encode(1, Op.STAT, b"a")[:-1],
        encode(1, Op.STAT, b"a") + b"x",
        encode(1, Op.LIST, b"a"),  # without its socket
        bytes([16, ABI + 1]) + encode(1, Op.STAT, b"a")[2:],
        encode(1, Op.STAT, b"a")[:8] + b"\x63\0\0\0" + encode(1, Op.STAT, b"a")[12:],
    ],
)
def test_what_is_no_request_ends_the_service_alone(service: Service, message: bytes) -> None:
    os.write(service.line, message)
    with pytest.raises(EOFError):
        _answer(service.line)
    end = awaited(service.native.control)
    assert isinstance(end, Exited) and end.id == 1
    os.close(spawn(service.native, 2, files=True))


def test_attributes_are_of_the_user_kind_alone(service: Service) -> None:
    def put(lines: bytes) -> int:
        return service.ask(Op.PUT, b"f", lines, flags=XATTRS, mode=0o644, content=b"x").errno

    for wrong in (
        b"user.a",
        b"user.a\n",
        b"security.a=b\n",
        b"a=b\n",
        b"user.a=" + b"x" * 9000 + b"\n",
    ):
        assert put(wrong) == errno.EINVAL, wrong
        assert service.ask(Op.STAT, b"f").errno == errno.ENOENT
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 6):
        assert put(b"user.a=b\n") == errno.ENOTSUP  # a tmpfs keeps none before
        pytest.skip("Linux before 6.6")
    assert put(b"user.a=b=c\nuser.d=\n") == 0
    file, *noted = service.ask(Op.STAT, b"f", flags=XATTRS).entries
    assert (file.name, file.change) == (b"f", 0)
    assert sorted((entry.name, entry.target) for entry in noted) == [
        (b"user.a", b"b=c"), (b"user.d", b""),
    ]  # fmt: skip
    assert {entry.change for entry in noted} == {XATTR}
