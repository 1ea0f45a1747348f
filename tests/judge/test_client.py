"""The judge from a client: the SDK, and the command line on whole packages."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from sandboxd_client import AsyncClient, Client, Limits

from sandboxd.cli.judge import judge as command
from tests.judge.packages import DIFFERENT, GUESS, SCORED, encoded, packed


def test_client_judges_and_hears_of_every_case(service):
    heard = []
    with Client(service.url) as client:
        result = client.judge(
            language="python",
            source="print(input())",
            cases=[{"input": b"1\n", "answer": "1"}, {"input": "2", "answer": "3"}],
            limits=Limits(cpu_time=2.0),
            on_case=heard.append,
        )
    assert (result.status, result.verdict, result.accepted) == ("judged", "WA", False)
    assert [case.verdict for case in result.cases] == ["AC", "WA"]
    assert sorted(case.name for case in heard) == ["1", "2"]
    assert result.cpu_time > 0


async def test_async_client_judges(service):
    async with AsyncClient(service.url) as client:
        result = await client.judge(language="c", source="int main(){}", cases=[{}] * 3)
    assert result.accepted
    assert result.compile is not None
    assert result.score == result.max_score == 3


def test_an_unknown_option_is_a_type_error(service):
    with Client(service.url) as client, pytest.raises(TypeError, match="checkr"):
        client.judge(language="c", source="", checkr="exact")  # type: ignore[call-arg]


@pytest.mark.parametrize("tree", [DIFFERENT, GUESS, SCORED], ids=["legacy", "2023-07", "scored"])
def test_verify_finds_every_example_as_its_directory_says(service, tmp_path: Path, tree):
    package = tmp_path / "package.zip"
    package.write_bytes(packed(tree))
    done = CliRunner().invoke(command, ["verify", str(package), "--url", service.url])
    assert done.exit_code == 0, done.output
    assert "WRONG" not in done.output
    if tree is DIFFERENT:
        assert "time limit 1 s" in done.output
        assert "skipped  submissions/accepted/notes.unknown" in done.output


def test_verify_says_what_is_not_as_expected(service, tmp_path: Path):
    wrong = {**DIFFERENT, "submissions/accepted/no.py": "print(1)\n", ".timelimit": "1"}
    for name, data in encoded(wrong).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    done = CliRunner().invoke(command, ["verify", str(tmp_path), "--url", service.url])
    assert done.exit_code == 1
    assert "WRONG    submissions/accepted/no.py: WA, expected AC" in done.output
    assert "case sample/1" in done.output


def test_run_prints_a_table_and_exits_by_the_verdict(service, tmp_path: Path):
    (tmp_path / "p.zip").write_bytes(packed(DIFFERENT))
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("a, b = map(int, input().split())\nprint(abs(a - b))\n")
    bad.write_text("print(2)\n")
    arguments = ["--problem", str(tmp_path / "p.zip"), "--url", service.url]
    done = CliRunner().invoke(command, ["run", str(good), *arguments])
    assert (done.exit_code, "AC: 3 AC; score 3 of 3" in done.output) == (0, True), done.output
    done = CliRunner().invoke(command, ["run", str(bad), *arguments])
    assert (done.exit_code, "secret/1  WA" in done.output) == (1, True), done.output
