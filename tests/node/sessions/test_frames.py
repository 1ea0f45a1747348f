"""Frames between gateway and node: whole, in any pieces, or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.model.agent import MAX_DATA, Decoder, FrameError, Kind, frame, head
from tests.fuzz.pace import fuzzed

frames = st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=300)), max_size=8)


@fuzzed
@given(frames, st.lists(st.integers(0, 600), max_size=12))
def test_frames_survive_any_cut(sent: list[tuple[Kind, bytes]], cuts: list[int]) -> None:
    wire = b"".join(frame(kind, payload) for kind, payload in sent)
    decoder, found, at = Decoder(), [], 0
    for cut in [*sorted(cuts), len(wire)]:
        found += decoder.feed(wire[at : max(at, cut)])
        at = max(at, cut)
    assert found == sent


@fuzzed
@given(st.binary(max_size=100))
def test_garbage_is_refused_or_waits_for_more(data: bytes) -> None:
    try:
        for kind, _ in Decoder().feed(data):
            assert kind in Kind
    except FrameError:
        return


def test_what_is_too_long_is_refused_before_it_comes() -> None:
    for kind, size in ((Kind.DATA, MAX_DATA + 1), (Kind.END, 1 << 20), (Kind.CALL, 1 << 30)):
        with pytest.raises(FrameError):
            Decoder().feed(head(kind, size))
