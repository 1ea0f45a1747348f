"""A Node run from a warm interpreter equals a cold one, byte for byte."""

import pytest

from tests.warm.compare import check_different, check_equal
from tests.warm.comparison import Comparison, Pairs
from tests.warm.script import Script
from tests.warm.scripts.node import DIFFERENT, NODE

pytestmark = [pytest.mark.root, pytest.mark.service, pytest.mark.timeout(200)]


@pytest.fixture(scope="module")
def pairs(node: Comparison) -> Pairs:
    return Pairs(node, [*NODE, *DIFFERENT])


@pytest.mark.parametrize("script", NODE, ids=lambda script: script.id)
def test_a_warm_run_equals_a_cold_one(script: Script, pairs: Pairs) -> None:
    check_equal(script, *pairs.of(script))


@pytest.mark.parametrize("script", DIFFERENT, ids=lambda script: script.id)
def test_a_documented_difference_is_there(script: Script, pairs: Pairs) -> None:
    check_different(*pairs.of(script))


def test_chance_is_new_in_every_run(pairs: Pairs, node: Comparison) -> None:
    (script,) = [script for script in NODE if script.random]
    outputs = [answer["stdout"] for answer in (*pairs.of(script), node.run(script))]
    assert len(set(outputs)) == 3


def test_each_run_took_its_path(pairs: Pairs, node: Comparison) -> None:
    for script in (*NODE, *DIFFERENT):
        pairs.of(script)
    assert node.counted_cold() == node.cold


def test_the_start_is_not_the_run_s_time(pairs: Pairs) -> None:
    """CPU seconds of what a cold start takes before the script are not counted to a warm run."""
    (script,) = [script for script in NODE if script.id == "node-names"]
    warm, cold = pairs.of(script)
    assert warm["cpu_time"] < cold["cpu_time"] / 1.5
