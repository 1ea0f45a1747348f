import json
from typing import Any

import pytest

from loadtest.job import Expectation, judge

HELLO = Expectation(exit_code=0, stdout="1\n")
RIGHT = {"status": "ok", "exit_code": 0, "stdout": "1\n"}


def test_the_right_answer_is_right() -> None:
    assert judge(HELLO, 200, json.dumps(RIGHT).encode()) is None


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"stdout": "2\n"}, "wrong_stdout"),
        ({"stdout": "1\n1\n"}, "wrong_stdout"),
        ({"stdout": ""}, "wrong_stdout"),
        ({"exit_code": 1}, "wrong_exit_code"),
        ({"exit_code": None}, "wrong_exit_code"),
        ({"status": "internal_error"}, "status_internal_error"),
        ({"status": None}, "malformed"),
    ],
)
def test_every_wrong_answer_is_named(change: dict[str, Any], kind: str) -> None:
    failure = judge(HELLO, 200, json.dumps(RIGHT | change).encode())
    assert failure is not None and failure.kind == kind and failure.detail


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"status": "\xff"}', b"null"])
def test_what_is_no_answer_is_malformed(body: bytes) -> None:
    failure = judge(HELLO, 200, body)
    assert failure is not None and failure.kind == "malformed"


def test_a_refusal_shows_the_problem() -> None:
    failure = judge(HELLO, 429, b'{"code": "queue_full"}')
    assert failure is not None
    assert (failure.kind, failure.detail) == ("http_429", '{"code": "queue_full"}')


def test_a_refusal_can_be_what_is_wanted() -> None:
    assert judge(Expectation(http=422), 422, b"{}") is None
    failure = judge(Expectation(http=422), 200, json.dumps(RIGHT).encode())
    assert failure is not None and failure.kind == "http_200"
