from collections import Counter
from pathlib import Path

import pytest
from fake_service import FakeService, hello

from loadtest import run, scenario
from loadtest.peers.http import Server
from loadtest.workload import Workload

SCENARIOS = Path(scenario.__file__).parent / "scenarios"
KNOWN = {
    name: Workload(name=name, title=name, stdout="1\n", request={"language": "python"})
    for name in ("compiled", "python")
}
GOOD = """
name = "x"
rate = 100.0
seconds = 0.2
warm_up = 0.05
timeout = 5.0
[[jobs]]
name = "hello"
weight = 3
workload = "python"
[[jobs]]
name = "own"
request = { language = "python", source = "1" }
expect = { stdout = "1\\n" }
"""


def read(tmp_path: Path, text: str) -> scenario.Scenario:
    path = tmp_path / "x.toml"
    path.write_text(text)
    return scenario.read(path)


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_scenario_we_ship_is_valid(path: Path) -> None:
    found = scenario.read(path)
    assert found.name == path.stem
    assert scenario.sequence(found, KNOWN)(0).name


def test_the_same_seed_sends_the_same_sequence_in_the_weights_asked_for(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)
    first, second = (scenario.sequence(found, KNOWN) for _ in range(2))
    names = [first(index).name for index in range(5_000)]
    assert names == [second(index).name for index in range(5_000)]
    assert 0.7 < Counter(names)["hello"] / len(names) < 0.8


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("rate = 100.0", "rate = 0", "rate"),
        ("seconds = 0.2", "seconds = -1", "seconds"),
        ("weight = 3", "weight = 0", "weight"),
        ("weight = 3", "wieght = 3", "wieght"),
        ('workload = "python"', 'workload = "cobol"', "workload"),
        ('workload = "python"', "", "exactly one"),
        ('name = "own"', 'name = "hello"', "same name"),
        ('name = "x"', 'name = "../x"', "name"),
        ('name = "x"', "name = ", "x.toml"),
        (
            'workload = "python"',
            'workload = "python"\nexpect = {exit_code = 1}',
            "their own expect",
        ),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, where: str) -> None:
    with pytest.raises(scenario.ScenarioError, match=where):
        read(tmp_path, GOOD.replace(old, new, 1))


async def test_a_run_reports_each_job_and_the_whole(
    tmp_path: Path, fake: FakeService, server: Server
) -> None:
    fake.answer = lambda request: (500, {}) if "source" in request else hello(request)
    found = read(tmp_path, GOOD)
    outcome = await run.run(found, server, None, KNOWN)
    assert outcome.total.ok + outcome.total.failed == 20
    assert fake.served == 25
    own = outcome.by_job["own"]
    assert (own.ok, own.errors) == (0, outcome.total.errors)
    text = run.markdown(found, outcome)
    assert f"{own.failed} x http_500" in text
    row = next(line for line in text.splitlines() if line.startswith("| own"))
    assert [word.strip() for word in row.split("|")[2:8]] == ["0", "-", "-", "-", "-", "-"]
    assert "| hello" in text and "| all" in text and "100 jobs/s" in text
