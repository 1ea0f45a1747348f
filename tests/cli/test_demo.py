"""The demo's judgement of answers. The whole of it, with a service of its own, is `make demo`."""

from typing import Any

import pytest
from click.testing import CliRunner
from sandboxd_client.model import result_of

from sandboxd.cli import demo
from sandboxd.cli.demo_programs import COPY, HELLO, PROGRAMS, Program
from tests.service.instance import Service

PROGRAM = Program(title="hello", language="c", source="", stdout="hi\n", compile_says="mind")
ANSWER: dict[str, Any] = {
    "id": "run_1",
    "status": "ok",
    "exit_code": 0,
    "stdout": "hi\n",
    "isolation": ["userns"],
    "compile": {"status": "ok", "exit_code": 0, "stderr": "mind this"},
}


def test_a_right_answer_has_no_fault() -> None:
    assert PROGRAM.faults(result_of(ANSWER)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "nonzero_exit"},
        {"exit_code": 1},
        {"signal": "SIGKILL"},
        {"stdout": "ho\n"},
        {"compile": None},
        {"isolation": []},
    ],
    ids=str,
)
def test_a_wrong_answer_has_a_fault(wrong: dict[str, Any]) -> None:
    assert len(PROGRAM.faults(result_of(ANSWER | wrong))) == 1


def test_every_language_has_both_programs() -> None:
    assert HELLO.keys() == COPY.keys()


def test_every_limit_is_shown() -> None:
    titles = {program.title for program in PROGRAMS}
    assert titles >= {
        "hello", "stdin to stdout", "compile error", "CPU time", "wall time", "memory",
        "processes", "output", "disk", "open files", "forbidden call", "fork bomb",
    }  # fmt: skip


@pytest.mark.root
@pytest.mark.service
@pytest.mark.parametrize(("stdout", "code"), [("hello\n", 0), ("hallo\n", 1)])
def test_a_running_service_is_shown_and_judged(
    service: Service, monkeypatch: pytest.MonkeyPatch, stdout: str, code: int
) -> None:
    program = Program(title="hello", language="bash", source="echo hello", stdout=stdout)
    monkeypatch.setattr(demo, "PROGRAMS", (program,))
    monkeypatch.setattr(demo, "IMAGE_PROGRAMS", ())
    shown = CliRunner().invoke(demo.demo, ["--url", service.url])
    assert shown.exit_code == code, shown.output
    assert ("Every answer was right." in shown.output) is (code == 0)
    assert ("✗" in shown.output) is (code == 1)
