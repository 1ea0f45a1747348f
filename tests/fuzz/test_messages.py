"""Messages that a hijacked init or runner could send: the host takes them for what they are, or
refuses them by name, and keeps no descriptor that nobody asked for."""

import os
import socket
import struct

from hypothesis import example, given
from hypothesis import strategies as st

from sandboxd.errors import NativeFault
from sandboxd.native import (
    Armed,
    EndOfStream,
    Exited,
    Failed,
    Opened,
    Quiet,
    Spawned,
    Terminal,
    receive,
)
from sandboxd.native.core import ABI, STAGES
from tests.fuzz.pace import fuzzed

kinds = st.integers(0, 12) | st.integers(0, 255)
heads = st.builds(
    lambda kind, version, rest: struct.pack("<BBH", kind, version, rest),
    kinds, st.sampled_from([ABI, ABI, ABI, 0, 255]), st.integers(0, 65_535),
)  # fmt: skip
numbers = st.sampled_from([0, 1, 2, 21, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
bodies = st.lists(numbers, max_size=8).map(lambda words: struct.pack(f"<{len(words)}I", *words))
names = st.binary(max_size=300) | st.sampled_from([b"..", b"a/b", b"/etc/passwd", b"a\0b", b"\xff"])
messages = st.builds(lambda *parts: b"".join(parts), heads, bodies, names) | st.binary(max_size=600)


def _opened(error: int, more: int, name: bytes) -> bytes:
    return struct.pack("<BBHiI", 11, ABI, 0, error, more) + name


@fuzzed
@given(message=messages, attached=st.integers(0, 17))
@example(message=b"", attached=3)
@example(message=_opened(0, 1, b"x"), attached=0)
@example(message=_opened(2, 1, b"x"), attached=1)
@example(message=_opened(0, 0, b""), attached=0)
@example(message=_opened(0, 0, b"../x"), attached=1)
@example(message=_opened(0, 0, b"x"), attached=2)
@example(message=struct.pack("<BBHiii", 1, ABI, 0, -1, 0, 0), attached=0)
@example(message=struct.pack("<BBHiii", 1, ABI, 0, 4, 2, 9), attached=1)
@example(message=struct.pack("<BBHiIIQQQ", 7, ABI, 0, 9, 1, 3, 2**64 - 1, 2**64 - 1, 1), attached=0)
@example(message=struct.pack("<BBHIii", 13, ABI, 0, 1, 7, 0), attached=1)
@example(message=struct.pack("<BBHIii", 13, ABI, 0, 1, 0, 0), attached=0)
@example(message=struct.pack("<BBH", 15, ABI, 0), attached=1)
def test_any_message_is_understood_or_refused(message: bytes, attached: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        before = _free()
        fds = struct.pack(f"{attached}i", *[theirs.fileno()] * attached)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if attached else []
        theirs.sendmsg([message], rights)
        try:
            found = receive(ours.fileno())
        except NativeFault as fault:
            assert fault.stage == "receive"
        else:
            _check(found, message)
        assert _free() == before


def _check(found: object, message: bytes) -> None:
    match found:
        case EndOfStream():
            assert message == b""
        case Opened(name, error, fd, more):
            assert not {"/", "\0"} & set(name) and name not in (".", "..")
            assert (fd >= 0) == (error == 0 and name != ""), found
            assert error >= 0 and (name or not more)
            if fd >= 0:
                os.close(fd)
        case Failed(stage, _, _):
            assert stage in STAGES
        case Exited(_, _, at, max_rss):
            assert at >= 0 and max_rss >= 0
        case Terminal(fd):
            assert os.fstat(fd).st_rdev == os.makedev(5, 2)
            os.close(fd)
        case Spawned(_, pid, error):
            assert (pid > 0) != (error > 0)
        case _:
            assert isinstance(found, Armed | Quiet)


def _free() -> int:
    """The lowest free descriptor; a leak raises it."""
    fd = os.open("/dev/null", os.O_RDONLY)
    os.close(fd)
    return fd
