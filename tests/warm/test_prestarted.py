"""Warm runs where the interpreter was started in its sandbox, not copied: a part of the comparison."""

import pytest

from tests.warm.cases import SCRIPTS
from tests.warm.compare import differences, mistake
from tests.warm.comparison import Comparison, Pairs
from tests.warm.known import PRESTARTED
from tests.warm.script import Script

pytestmark = [pytest.mark.root, pytest.mark.service, pytest.mark.timeout(200)]

DRAWN = [script for script in SCRIPTS if script.shared]
SAMPLE = [*SCRIPTS[::20], *DRAWN]


@pytest.fixture(scope="module")
def pairs(prestarted: Comparison) -> Pairs:
    return Pairs(prestarted, [*SAMPLE, *PRESTARTED])


@pytest.mark.parametrize("script", SAMPLE, ids=lambda script: script.id)
def test_a_warm_run_equals_a_cold_one(script: Script, pairs: Pairs) -> None:
    warm, cold = pairs.of(script)
    assert mistake(script, cold) is None
    found = differences(script, warm, cold)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("script", PRESTARTED, ids=lambda script: script.id)
def test_a_documented_difference_is_there(script: Script, pairs: Pairs) -> None:
    warm, cold = pairs.of(script)
    assert warm["status"] == cold["status"] == "ok"
    assert warm["stdout"] != cold["stdout"]


@pytest.mark.parametrize("script", DRAWN, ids=lambda script: script.id)
def test_chance_is_new_in_every_run(script: Script, pairs: Pairs, prestarted: Comparison) -> None:
    outputs = [answer["stdout"] for answer in (*pairs.of(script), prestarted.run(script))]
    assert len(set(outputs)) == 3, script.why
