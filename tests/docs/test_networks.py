"""The files that docs/networks.md shows are ones that a service takes."""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sandboxd import policy
from sandboxd.drivers.network.floor import floor
from sandboxd.drivers.network.macvlan.seats import Seats
from sandboxd.settings import Settings, load
from tests.docs.test_readme import ROOT
from tests.network.test_macvlan import HERE
from tests.network.test_takeaway import CASES

PAGE = (ROOT / "docs/networks.md").read_text()
FILES = re.findall(r"^```toml\n# (\S+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """All of sandboxd.toml that the page shows."""
    file = tmp_path_factory.mktemp("settings") / "sandboxd.toml"
    file.write_text("".join(text for name, text in FILES if name == "sandboxd.toml"))
    return load(str(file), {})


def test_its_settings_are_settings(settings: Settings) -> None:
    assert settings.network.enabled and set(settings.network.macvlan) == {"lab"}
    floor(settings.network.private, ())
    for name, lan in settings.network.macvlan.items():
        floor(lan.private, ())
        assert len(Seats(name, lan).take().addresses) == 2


def test_its_policies_are_policies(settings: Settings, tmp_path: Path) -> None:
    for name, text in FILES:
        if name != "sandboxd.toml":
            (tmp_path / Path(name).name).write_text(text)
    found = policy.egress(tmp_path, settings.network.macvlan)
    assert set(found) == {"narrow", "lab"}
    assert found["lab"].tenants == ["acme"]


@pytest.mark.parametrize("word", sorted(set(re.findall(r"`network\.([a-z_]+)`", PAGE))))
def test_every_setting_that_it_names_is_there(word: str) -> None:
    known: dict[str, Any] = msgspec.structs.asdict(Settings().network)
    assert word in known


def test_every_cap_of_a_policy_is_on_the_page() -> None:
    text = next(text for name, text in FILES if name.endswith("narrow.toml"))
    assert set(tomllib.loads(text)) >= {
        "connections", "connection_rate", "packet_rate", "total_bytes", "upload", "download",
    }  # fmt: skip


def test_its_tests_are_there_and_each_rule_is_taken_away_in_one_line() -> None:
    lines = PAGE.partition("## Which test shows what")[2].splitlines()
    rows = [line.split(" | ")[1:] for line in lines if line.startswith("| ") and "`" in line]
    assert all(len(row) == 2 for row in rows)
    for tests, _ in rows:
        for name in re.findall(r"`([^`]+)`", tests):
            assert (ROOT / (name if "/" in name else f"tests/network/{name}")).exists(), name
    (left,) = (rules for _, rules in rows if "all but" in rules)
    taken = [word for _, rules in rows if rules != left for word in re.findall(r"`(\w+)`", rules)]
    assert sorted(taken) == sorted(case.rule for case in CASES)
    assert set(re.findall(r"`(\w+)`", left)) == set(taken) - HERE
