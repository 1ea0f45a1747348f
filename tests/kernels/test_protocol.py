"""What kernels say is taken apart whatever it is, and however it is cut."""

from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.kernels import protocol
from sandboxd.kernels.languages import start
from sandboxd.kernels.protocol import LINE_MAX, Decoder
from sandboxd.model.context import ContextLanguage, Ended, EndStatus, Omitted, Started, Stdout

_EVENTS = st.one_of(
    st.builds(Stdout, run=st.text(max_size=5), text=st.text(max_size=20), time=st.floats(0, 1)),
    st.builds(Started, run=st.none(), execution_count=st.integers(0, 9)),
    st.builds(Ended, of=st.text(max_size=5), status=st.sampled_from(EndStatus)),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@given(st.lists(_EVENTS, max_size=6), st.lists(st.integers(0, 10_000), max_size=8))
def test_events_are_the_same_however_they_are_cut(events: list[Stdout], places: list[int]) -> None:
    data = b"".join(msgspec.json.encode(event) + b"\n" for event in events)
    decoder = Decoder()
    assert [e for piece in cut(data, places) for e in decoder.feed(piece)] == events
    assert decoder.held == 0


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_anything_may_be_said(noise: bytes, places: list[int]) -> None:
    decoder = Decoder()
    for piece in cut(noise, places):
        decoder.feed(piece)
    assert decoder.feed(b"\n" + msgspec.json.encode(Started(execution_count=1)) + b"\n")[-1:] == [
        Started(execution_count=1)
    ]


def test_a_line_that_is_too_long_is_let_go_of_and_said_to_be_missing() -> None:
    decoder, piece = Decoder(), b"x" * (1 << 20)
    told = [event for _ in range(40) for event in decoder.feed(piece)]
    assert told == [Omitted()] and decoder.held <= LINE_MAX
    assert decoder.feed(b'tail\n{"type":"started","execution_count":2}\n') == [
        Started(execution_count=2)
    ]


def test_after_a_gap_it_goes_on_at_the_next_line() -> None:
    decoder = Decoder()
    decoder.feed(b'{"type":"std')
    decoder.resync()
    assert decoder.feed(b'out","text":"x"}\n{"type":"started","execution_count":3}\n') == [
        Started(execution_count=3)
    ]


def test_deep_nesting_is_no_event() -> None:
    deep = b'{"type":"result","json":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    assert Decoder().feed(deep) == []


def test_programs_fit_into_an_empty_pipe() -> None:
    for language in ContextLanguage:
        assert len(start(language).program) < 65_536
        assert sum(map(len, start(language).command)) < 16_384


def test_requests_are_one_line_whatever_is_in_them() -> None:
    for line in (
        protocol.run("r", "a\nb\u2028\x00\r", {"N": "v\n"}), protocol.configure("/x\ny"),
        protocol.interrupt(None), protocol.ask("r"), protocol.environment({"A": "\n"}),
    ):  # fmt: skip
        assert line.endswith(b"\n") and line.count(b"\n") == 1 and msgspec.json.decode(line)["op"]
