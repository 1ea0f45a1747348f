"""The matrix itself: enough of it, well-formed, and able to fail."""

import dataclasses
from collections import Counter
from typing import Any

import msgspec
import pytest

from sandboxd.model import RunRequest, Status
from tests.matrix.cases import CASES
from tests.matrix.compare import differences
from tests.matrix.expectation import exits, ok, over_cpu

ANSWER: dict[str, Any] = {
    "status": "ok",
    "exit_code": 0,
    "signal": None,
    "stdout": "hi\n",
    "stderr": "",
    "stdout_truncated": False,
    "stderr_truncated": False,
    "encoding": "utf-8",
    "cpu_time": 0.01,
    "wall_time": 0.02,
    "peak_memory": 1 << 20,
    "files": {"out": {"text": "x"}},
    "file_errors": {"gone": "not_found"},
    "compile": None,
}
RIGHT = ok(
    stdout=b"hi\n",
    stderr=b"",
    encoding="utf-8",
    cpu_time=(0, 1),
    files={"out": b"x"},
    file_errors={"gone": ("not_found",)},
)


def test_ids_name_one_case_each() -> None:
    assert [name for name, times in Counter(case.id for case in CASES).items() if times > 1] == []


def test_every_status_that_a_program_can_cause_is_in_the_matrix() -> None:
    not_a_programs = {Status.CANCELLED, Status.INTERNAL_ERROR}
    assert {case.expect.status for case in CASES} == set(Status) - not_a_programs


def test_requests_are_what_the_api_takes() -> None:
    for case in CASES:
        msgspec.json.decode(msgspec.json.encode(case.request), type=RunRequest, strict=True)


def test_a_right_answer_has_no_differences() -> None:
    assert differences(RIGHT, ANSWER) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "nonzero_exit"},
        {"exit_code": 1},
        {"exit_code": None},
        {"signal": "SIGKILL"},
        {"stdout": "hi"},
        {"stdout": "aGk=", "encoding": "base64"},
        {"stderr": "x"},
        {"stdout_truncated": True},
        {"stderr_truncated": True},
        {"cpu_time": 1.5},
        {"files": {}},
        {"files": {"out": {"text": "y"}}},
        {"files": {"out": {"text": "x"}, "more": {"text": ""}}},
        {"file_errors": {}},
        {"file_errors": {"gone": "denied"}},
    ],
    ids=str,
)
def test_a_wrong_field_is_a_difference(wrong: dict[str, Any]) -> None:
    assert differences(RIGHT, ANSWER | wrong) != []


def test_the_compiler_is_compared_too() -> None:
    expect = dataclasses.replace(RIGHT, compile=exits(1))
    assert differences(expect, ANSWER) == ["compile is null"]
    assert differences(expect, ANSWER | {"compile": ANSWER | {"exit_code": 1}}) != []


def test_cpu_time_beyond_the_limit_is_a_difference() -> None:
    late = {"status": "cpu_time_exceeded", "exit_code": None, "signal": "SIGKILL", "cpu_time": 1.2}
    assert differences(over_cpu(0.5), ANSWER | late | {"files": {}, "file_errors": {}}) != []
