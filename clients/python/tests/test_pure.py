"""The parts without I/O: events from bytes, errors from problems, pauses, deadlines."""

import itertools
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sandboxd_client import Limits, Overload, RequestError, SandboxdError, ServerError
from sandboxd_client.deadline import Backoff, Deadline
from sandboxd_client.endpoint import Endpoint
from sandboxd_client.errors import from_answer, from_problem
from sandboxd_client.model import content, content_of
from sandboxd_client.request import MARGIN, patience
from sandboxd_client.sse import Decoder, Message
from sandboxd_client.streaming import CHUNK, stdin_frames

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The machine may be busy with anything."""

WIRE = b": hi\n\nid: 1-0\nevent: queued\ndata: {}\n\nid: 2-0\r\ndata:a\r\ndata: b\r\nx: y\r\n\r\ndata\n\n"
MESSAGES = [
    Message("1-0", "queued", "{}"),
    Message("2-0", "message", "a\nb"),
    Message(None, "message", ""),
]


@calm
@given(st.lists(st.integers(0, len(WIRE)), max_size=20))
def test_events_do_not_depend_on_how_the_bytes_arrive(cuts):
    edges = [0, *sorted(cuts), len(WIRE)]
    decoder = Decoder()
    chunks = [WIRE[a:b] for a, b in itertools.pairwise(edges)]
    assert [message for chunk in chunks for message in decoder.feed(chunk)] == MESSAGES


@calm
@given(st.binary(max_size=200))
def test_no_bytes_break_the_event_decoder(data):
    for message in Decoder().feed(data):
        assert isinstance(message, Message)


@calm
@given(st.binary(max_size=100))
def test_content_comes_back_as_it_went(data):
    assert content_of(content(data)) == data


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_stdin_is_cut_into_frames_and_nothing_is_lost(size):
    data = bytes(range(256)) * (size // 256 + 1)
    frames = list(stdin_frames(data[:size]))
    assert b"".join(frame[1:] for frame in frames) == data[:size]
    assert all(frame[:1] == b"\x00" and 1 < len(frame) <= CHUNK + 1 for frame in frames)


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, RequestError, False),
        (401, RequestError, False),
        (429, Overload, True),
        (500, ServerError, False),
        (503, Overload, True),
        (504, ServerError, False),
        (507, RequestError, False),
    ],
)
def test_status_tells_the_kind_of_error(status, kind, retryable):
    error = from_answer(status, {}, b"<html>")
    assert type(error) is kind and error.retryable is retryable
    assert (error.code, error.status) == (f"http_{status}", status)


@calm
@given(
    st.dictionaries(
        st.sampled_from(["status", "code", "detail", "title", "field", "retryable", "retry_after"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.none()),
    )
)
def test_no_problem_document_breaks_the_translation(problem):
    error = from_problem(problem)
    assert isinstance(error, SandboxdError) and isinstance(error.code, str)
    assert error.retry_after is None or error.retry_after >= 0


@pytest.mark.parametrize(
    ("headers", "body", "after"),
    [
        ({"retry-after": "7"}, b"", 7.0),
        ({"retry-after": "7"}, b'{"retry_after": 0.5}', 0.5),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"{}", None),
        ({"retry-after": "-1"}, b"{}", None),
        ({"retry-after": "inf"}, b"{}", None),
    ],
)
def test_retry_after_is_read_from_the_problem_or_the_header(headers, body, after):
    assert from_answer(429, headers, body).retry_after == after


def test_errors_survive_pickling():
    error = from_problem({"status": 422, "code": "c", "detail": "d", "field": "f"})
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.code, again.field, str(again)) == (
        RequestError, "c", "f", "d (f) [c]",
    )  # fmt: skip


@calm
@given(st.integers(1, 12), st.floats(0, 100), st.floats(0.01, 100))
def test_pause_is_bounded_and_honours_the_service(failures, after, left):
    error = Overload("x", retry_after=after)
    pause = Backoff(retries=10).pause(failures, error, Deadline(left))
    if failures > 10:
        assert pause is None
    elif pause is not None:
        assert after <= pause < left and pause <= max(10.0, after)


def test_patience_covers_compiling_running_and_a_margin():
    assert patience({"command": ["x"], "limits": {"wall_time": 5}}) == 5 + MARGIN
    limits = Limits(wall_time=2, cpu_time=1)
    both = {"language": "c", "limits": limits, "compile_limits": {"wall_time": 3}}
    assert patience(both) == 5 + MARGIN
    assert patience({"language": "c"}) > patience({"language": "c", "limits": limits}) > MARGIN


@pytest.mark.parametrize(
    ("url", "origin", "uds", "ws"),
    [
        ("http://h:1/", "http://h:1", None, "ws://h:1"),
        ("https://h/base/", "https://h/base", None, "wss://h/base"),
        ("http://[::1]:7070", "http://[::1]:7070", None, "ws://[::1]:7070"),
        ("unix:/run/s", "http://sandboxd", "/run/s", "ws://sandboxd"),
        ("unix:///run/s", "http://sandboxd", "/run/s", "ws://sandboxd"),
        ("unix:s", "http://sandboxd", "s", "ws://sandboxd"),
    ],
)
def test_base_url_is_taken_apart(url, origin, uds, ws):
    endpoint = Endpoint.of(url, None)
    assert (endpoint.origin, endpoint.uds, endpoint.ws_origin) == (origin, uds, ws)
