"""Layer by layer: what stops an attack when others are left out."""

from typing import Any

import pytest

from tests.attack.cases.power import DEEDS
from tests.attack.layers import SWITCHES, WITHIN, committed, survey_apart, table

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(WITHIN + 20)]


@pytest.fixture(scope="module")
def caught() -> list[dict[str, Any]]:
    return survey_apart()


def test_every_core_attack_is_stopped_by_two_layers_and_what_one_stops_has_a_reason(
    caught: list[dict[str, Any]],
) -> None:
    assert [f"{one['case']}: {one['wrong']}" for one in caught if one["wrong"]] == [], table(caught)


def test_every_layer_stops_something_by_itself(caught: list[dict[str, Any]]) -> None:
    stopping = {layer for one in caught for layer in one["alone"]}
    # hidepid hides what other layers keep closed, cgroupns hides a path, and the OOM score needs a
    # capability that not every host's root has.
    assert set(SWITCHES) - stopping <= {"hidepid", "cgroupns", "oom_score"}


def test_the_table_of_security_md_is_what_a_survey_finds(caught: list[dict[str, Any]]) -> None:
    """A host whose root lacks a capability cannot try every case, but has no other answer."""
    told = committed().splitlines()
    found = table(caught).splitlines()
    assert [line for line in found if line not in told] == [], "renew it: make attack ARGS=--write"
    rows = {line.split(" | ")[0].removeprefix("| ") for line in told if line.startswith("| ")}
    every = {deed.id for deed in DEEDS}
    always = {deed.id for deed in DEEDS if deed.capability is None}
    assert always <= rows <= every | {"case", "beside the core"}
