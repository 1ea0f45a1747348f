"""The judging cells: what is measured is right, or nothing is measured."""

from pathlib import Path
from typing import Any

import pytest
from fake_service import FakeService

from loadtest import __main__ as main
from loadtest.judge import Plan, WrongVerdictError, _cat, _in_turns, _ratio
from loadtest.peers.http import Server


async def test_a_wrong_verdict_is_no_measurement(fake: FakeService, tmp_path: Path) -> None:
    fake.answer = lambda _: (200, {"verdict": "WA", "cases": []})
    arguments = [
        "bench", "--url", f"http://127.0.0.1:{fake.port}", "--quick", "--workloads", "judge",
        "--out", str(tmp_path),
    ]  # fmt: skip
    options = main._parser().parse_args(arguments)
    with pytest.raises(WrongVerdictError, match="WA"):
        await options.verb(options)
    assert not (tmp_path / "judge.md").exists()
    assert WrongVerdictError in main._FAULTS


async def test_two_are_measured_in_turns_and_compared_round_by_round() -> None:
    order: list[str] = []

    async def note(name: str) -> None:
        order.append(name)

    ours, bare = await _in_turns(3, lambda: note("a"), lambda: note("b"))
    assert order == ["a", "b"] * 3
    assert len(ours) == len(bare) == 3
    assert _ratio([2.0, 30.0, 4.0], [1.0, 10.0, 4.0]) == 2.0


async def test_go_judge_is_asked_the_same_as_often(fake: FakeService) -> None:
    answer: Any = [{"status": "Accepted", "files": {"stdout": "hello", "stderr": ""}}]
    fake.answer = lambda _: (200, answer)
    server, plan = Server.of(f"http://127.0.0.1:{fake.port}"), Plan(rounds=2, runs=3)
    alone = await _cat(server, plan, None)
    assert fake.served == 6 and alone.count("p50") == 1 and alone.endswith("| | |")
    beside = await _cat(server, plan, server)
    assert fake.served == 18 and beside.count("p50") == 2 and beside.count("|") == alone.count("|")
    answer[0]["files"]["stdout"] = ""
    with pytest.raises(WrongVerdictError):
        await _cat(server, plan, None)
