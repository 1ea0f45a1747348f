"""The demo: its judgement of answers, and the whole of it against a real service."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sandboxd_client.model import result_of

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
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_demo_is_right_on_this_machine(service: Service) -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "sandboxd.cli.main", "demo", "--url", service.url],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "Every answer was right." in demo.stdout
    assert "✗" not in demo.stdout
