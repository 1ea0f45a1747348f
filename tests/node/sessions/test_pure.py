"""Decisions and parsers of sessions: rings, lifetimes, what a file service may say."""

import os
import stat
import struct

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandboxd.model.session import FileType, Metrics, shown
from sandboxd.native.core import ABI
from sandboxd.native.file_service import FileEntry, Op, decode, encode
from sandboxd.node.sessions.entries import draft, event, info
from sandboxd.node.sessions.history import History
from sandboxd.node.sessions.lifetime import Lifetime, Step, decide
from sandboxd.node.sessions.ring import Ring
from tests.fuzz.pace import fuzzed

METRICS = Metrics(
    at="", cpu_time=0.0, memory=0, peak_memory=0, memory_limit=0, pids=0, pids_limit=0, disk=0,
    disk_limit=0, processes=0,
)  # fmt: skip
moments = st.floats(0, 1e6, allow_nan=False)


@fuzzed
@given(st.integers(0, 50), st.lists(st.binary(max_size=40), max_size=20))
def test_a_ring_keeps_the_newest_bytes_and_counts_all(cap: int, pieces: list[bytes]) -> None:
    ring = Ring(cap)
    for piece in pieces:
        ring.append(piece)
    whole = b"".join(pieces)
    assert ring.content() == whole[max(0, len(whole) - cap) :]
    assert ring.written == len(whole)
    assert ring.dropped == len(whole) - len(ring.content())


def test_a_ring_that_lost_bytes_says_so() -> None:
    ring = Ring(10, lost=True)
    assert ring.dropped == 1
    ring.append(b"x" * 15)
    assert ring.dropped == 5


@fuzzed
@given(
    now=moments,
    since=moments,
    active=moments,
    timeout=st.floats(0.1, 1e5),
    idle=st.none() | st.floats(0.1, 1e5),
    busy=st.integers(0, 3),
    paused=st.booleans(),
    on_timeout=st.sampled_from(["kill", "pause"]),
)
def test_time_is_up_exactly_when_it_is(
    now: float, since: float, active: float, timeout: float, idle: float | None, busy: int,
    paused: bool, on_timeout: str,
) -> None:  # fmt: skip
    life = Lifetime(
        timeout=timeout, idle_timeout=idle, on_timeout=on_timeout, since=since, active=active,  # type: ignore[arg-type]
        busy=busy, paused=paused,
    )  # fmt: skip
    decision = decide(life, now)
    expired = now >= since + timeout
    idled = idle is not None and busy == 0 and not paused and now >= active + idle
    if paused and on_timeout == "pause":
        assert (decision.step, decision.again) == (Step.NONE, None), "it waits for somebody"
    elif expired or idled:
        assert decision.step is (Step.PAUSE if on_timeout == "pause" else Step.KILL)
        assert decision.again is None
    else:
        assert decision.step is Step.NONE
        assert decision.again is not None and decision.again > now
        after = decide(life, decision.again)
        assert after.step is not Step.NONE, "nothing is asked for earlier than it has to be"


@fuzzed
@given(moments, st.floats(0.1, 1e5), st.none() | st.floats(0.1, 1e5), moments)
def test_what_is_extended_or_woken_is_not_over(
    now: float, timeout: float, other: float | None, since: float
) -> None:
    life = Lifetime(
        timeout=timeout, idle_timeout=None, on_timeout="pause", since=since, active=since,
        paused=True,
    )  # fmt: skip
    life.woken(now)
    assert decide(life, now).step is Step.NONE
    life.extend(now, other)
    assert life.expires == now + (other or timeout)


entries = st.builds(
    lambda name, target, numbers: struct.pack("<IIIIQq", *numbers)
    + struct.pack("<I", len(name)) + name + struct.pack("<I", len(target)) + target,
    st.binary(max_size=30),
    st.binary(max_size=30),
    st.tuples(*[st.integers(0, 2**32 - 1)] * 4, st.integers(0, 2**64 - 1), st.integers(-5, 5)),
)  # fmt: skip
heads = st.builds(
    lambda kind, version, error, more: struct.pack("<BBHIiIQ", kind, version, 0, 7, error, more, 9),
    st.sampled_from([17, 17, 17, 16, 0]),
    st.sampled_from([ABI, ABI, 0]),
    st.sampled_from([0, 0, 0, 2, -1]),
    st.sampled_from([0, 1, 2]),
)
answers = st.builds(
    lambda head, listed, tail: head + b"".join(listed) + tail,
    heads,
    st.lists(entries),
    st.binary(max_size=40),
)


@fuzzed
@given(answers | st.binary(max_size=200))
@example(b"")
def test_any_answer_is_understood_or_refused(data: bytes) -> None:
    answer = decode(data, -1)
    if answer is None:
        return
    assert answer.errno >= 0 and not (answer.errno and answer.more)
    for entry in answer.entries:
        assert b"\0" not in entry.name
        assert info(entry, entry.name).type in FileType
        event(entry, b"/top")


def test_a_descriptor_that_is_no_plain_file_is_refused() -> None:
    entry = struct.pack("<IIIIQq", stat.S_IFREG, 0, 0, 0, 0, 0) + struct.pack("<I", 1) + b"f"
    message = struct.pack("<BBHIiIQ", 17, ABI, 0, 1, 0, 0, 1) + entry + struct.pack("<I", 0)
    left, right = os.pipe()
    with open(__file__, "rb") as plain, open("/proc/self/status", "rb") as proc:
        found = decode(message, plain.fileno())
        assert found is not None and found.fd == plain.fileno()
        for fd in (left, right, proc.fileno(), os.open("/dev/null", os.O_RDONLY)):
            assert decode(message, fd) is None, os.readlink(f"/proc/self/fd/{fd}")
        failed = struct.pack("<BBHIiIQ", 17, ABI, 0, 1, 2, 0, 1)
        assert decode(failed, plain.fileno()) is None, "an error brings nothing along"
    os.close(left)
    os.close(right)


@pytest.mark.parametrize("path", [b"a\0b", b"\0"])
def test_a_path_with_a_nul_is_never_sent(path: bytes) -> None:
    with pytest.raises(ValueError, match="NUL"):
        encode(1, Op.STAT, path)


@given(st.binary(max_size=60))
def test_a_name_is_shown_and_can_be_given_back(name: bytes) -> None:
    import base64

    text, encoded = shown(name)
    assert (base64.b64decode(encoded) if isinstance(encoded, str) else text.encode()) == name
    assert info(FileEntry(name, b"", stat.S_IFREG, 0, 0, 1, 0), name).path == text


@given(st.integers(1, 6), st.lists(st.integers(0, 1 << 50), max_size=20))
def test_of_a_history_the_newest_are_kept_in_order(most: int, counts: list[int]) -> None:
    history = History(most)
    for at, count in enumerate(counts, 1):
        history.add(float(at), msgspec.structs.replace(METRICS, memory=count, tx_bytes=at))
    found = history.samples()
    assert [each.memory for each in found] == counts[-most:]
    assert [each.tx_bytes for each in found] == list(range(1, len(counts) + 1))[-most:]
    later = history.samples(after=float(len(counts) - 1))
    assert [each.memory for each in later] == counts[-1:]


@pytest.mark.parametrize(
    ("name", "is_draft"),
    [
        (b".sbx-0123456789abcdef", True),
        (b"deep/er/.sbx-0123456789abcdef", True),
        (b".sbx-notes", False),
        (b".sbx-0123456789abcdef/file", False),
        (b"a.sbx-0123456789abcdef", False),
    ],
)
def test_drafts_are_known_by_their_names(name: bytes, is_draft: bool) -> None:
    assert draft(name) is is_draft
