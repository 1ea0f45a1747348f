"""docs/judges.md: its programs run as printed (but for the port), its tables are what the service has."""

import json
import re
from pathlib import Path

import pytest

from sandboxd.gateway import adapters
from sandboxd.model import Verdict
from sandboxd.settings import load
from tests.docs.test_readme import ROOT, run
from tests.service.instance import Service

PAGE = (ROOT / "docs/judges.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
NOT_JUDGES = {"e2b"}
"""Adapters that other pages tell of."""


@pytest.mark.root
@pytest.mark.service
def test_every_program_does_what_the_page_says(service: Service, tmp_path: Path) -> None:
    here = f"http://{service.url.partition('//')[2]}"
    (_, http), *rest = ((kind, text.replace("localhost:7070", here)) for kind, text in BLOCKS)
    assert [case["verdict"] for case in json.loads(run("sh", http, service, tmp_path))["cases"]] == [
        "AC", "AC",
    ]  # fmt: skip
    client, terminal = (run(kind, text, service, tmp_path) for kind, text in rest)
    case, whole = client.splitlines()
    assert re.fullmatch(r"1 AC 0\.\d+", case) and whole == "AC 1.0 1.0"
    lines = terminal.splitlines()
    assert lines[0].split() == ["case", "verdict", "cpu", "s", "MiB", "message"]
    assert "AC: 2 AC; score 2 of 2" in lines
    assert "ok       submissions/accepted/sum.py: AC, expected AC" in terminal
    assert lines[-1] == "2 of 2 as expected"


def rows(heading: str) -> list[str]:
    """The first column of the table under the first line that begins so."""
    table = PAGE.partition(heading)[2].partition("\n\n")[0]
    return [line.split("|")[1].strip(" `") for line in table.splitlines() if line.startswith("| `")]


def test_the_tables_name_every_verdict_and_adapter() -> None:
    assert set(rows("| verdict | when |")) == {verdict.value for verdict in Verdict}
    named = {name.partition("`")[0] for name in rows("| adapter | served | not |")}
    assert named == set(adapters.NAMES) - NOT_JUDGES


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`((?:judge|adapters|queue)\.[a-z0-9_]+)", PAGE)))
)
def test_every_setting_that_the_page_names_exists(name: str) -> None:
    section, _, field = name.partition(".")
    assert hasattr(getattr(load(None, {}), section), field)
