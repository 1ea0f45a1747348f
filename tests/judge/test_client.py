"""The judge from a client: the SDK, and the command line on whole packages."""

import os
import pty
import subprocess
import sys
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


def test_a_terminal_gets_a_bar_and_no_escapes_of_strangers(service, tmp_path: Path):
    """A checker repeats what a program printed: colours, titles, what a terminal would act on."""
    evil = "\033]0;owned\007\033[31m"
    package = {
        "problem.yaml": "name: Loud\nvalidation: custom\n",
        "data/secret/1.in": "1\n", "data/secret/1.ans": "1\n",
        "data/secret/2.in": "2\n", "data/secret/2.ans": "2\n",
        "output_validators/check.py": "import sys\nopen(sys.argv[3] + '/judgemessage.txt', 'w')"
        ".write('got ' + sys.stdin.read())\nsys.exit(43)\n",
    }  # fmt: skip
    (tmp_path / "loud.zip").write_bytes(packed(package))
    program = tmp_path / "loud.py"
    program.write_text(f"print({evil!r})\n")
    master, slave = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sandboxd.cli.main", "judge", "run", str(program), "--all",
             "--problem", str(tmp_path / "loud.zip"), "--url", service.url],
            stdout=subprocess.PIPE, stderr=slave, stdin=subprocess.DEVNULL, timeout=90, check=False,
        )  # fmt: skip
        seen = os.read(master, 65_536).decode()
    finally:
        os.close(master)
        os.close(slave)
    assert done.returncode == 1
    assert f"\r[{'#' * 15}{'.' * 15}] 1/2 cases, 1 not accepted" in seen
    assert f"\r[{'#' * 30}] 2/2 cases, 2 not accepted\r\n" in seen
    table = done.stdout.decode()
    assert "got \\x1b]0;owned\\x07" in table
    assert "\033" not in table and "\033" not in seen
    assert "WA: 2 WA" in table
