"""Warm runs where the interpreter was started in its sandbox, not copied: a part of the comparison."""

import pytest

from tests.warm.cases import SCRIPTS
from tests.warm.compare import check_different, check_equal
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
    check_equal(script, *pairs.of(script))


@pytest.mark.parametrize("script", PRESTARTED, ids=lambda script: script.id)
def test_a_documented_difference_is_there(script: Script, pairs: Pairs) -> None:
    check_different(*pairs.of(script))


@pytest.mark.parametrize("script", DRAWN, ids=lambda script: script.id)
def test_chance_is_new_in_every_run(script: Script, pairs: Pairs, prestarted: Comparison) -> None:
    outputs = [answer["stdout"] for answer in (*pairs.of(script), prestarted.run(script))]
    assert len(set(outputs)) == 3, script.why
