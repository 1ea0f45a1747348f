"""The judging cells: what is measured is right, or nothing is measured."""

from pathlib import Path

import pytest
from fake_service import FakeService

from loadtest import __main__ as main
from loadtest.judge import WrongVerdictError, _in_turns, _ratio


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
