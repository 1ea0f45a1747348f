"""A Python run from a warm interpreter equals a cold one, byte for byte."""

import time
from collections import Counter
from dataclasses import replace

import pytest

from tests.warm.cases import SCRIPTS
from tests.warm.compare import check_different, check_equal
from tests.warm.comparison import COLD, Comparison, Pairs
from tests.warm.conftest import COPIES
from tests.warm.known import DIFFERENT, START
from tests.warm.script import Script, s

pytestmark = [pytest.mark.root, pytest.mark.service, pytest.mark.timeout(200)]

FILE = "tests/warm/test_warm.py"
"""As pytest names it: Node's scripts and Java's are for services of their own."""
HONOURED = [
    ("PYTHONHASHSEED", "0", "import sys; print(sys.flags.hash_randomization)", "0"),
    ("PYTHONPATH", "/work/lib", "import sys; print(sys.path[1])", "/work/lib"),
    ("PYTHONOPTIMIZE", "2", "assert 0; print(__debug__)", "False"),
    ("PYTHONUTF8", "1", "import sys; print(sys.flags.utf8_mode)", "1"),
    ("PYTHONIOENCODING", "ascii:replace", "import sys; print(sys.stdout.errors)", "replace"),
    ("PYTHONUNBUFFERED", "1", "import os; print('a', end=''); os.write(1, b'b')", "ab"),
    ("PYTHONWARNINGS", "error", "import sys; print(sys.warnoptions)", "['error']"),
    ("PYTHONNOUSERSITE", "1", "import site; print(site.ENABLE_USER_SITE)", "False"),
    ("PYTHONUSERBASE", "/work/u", "import site; print(site.USER_BASE)", "/work/u"),
    ("PYTHONDEVMODE", "1", "import sys; print(sys.flags.dev_mode)", "True"),
    ("PYTHONFAULTHANDLER", "1", "import faulthandler as f; print(f.is_enabled())", "True"),
    ("PYTHONTRACEMALLOC", "3", "import tracemalloc as t; print(t.get_traceback_limit())", "3"),
    ("PYTHONSAFEPATH", "1", "import sys; print('/work' in sys.path)", "False"),
    ("PYTHONDONTWRITEBYTECODE", "", "import sys; print(sys.dont_write_bytecode)", "False"),
    ("PYTHONINTMAXSTRDIGITS", "700", "import sys; print(sys.get_int_max_str_digits())", "700"),
    ("LC_ALL", "C", "import sys; print(sys.flags.utf8_mode)", "1"),
    ("HOME", "/tmp", "import site; print(site.USER_BASE)", "/tmp/.local"),
    ("TZ", "EST5EDT", "import time; print(time.tzname)", "('EST', 'EDT')"),
]
"""Variable, value, program, and what it prints if the interpreter has heard of it."""


@pytest.fixture(scope="session")
def pairs(request: pytest.FixtureRequest, comparison: Comparison) -> Pairs:
    """Both answers of every script that is looked at here in this session, and of the first, some at a
    time when first asked."""
    own = [item for item in request.session.items if item.nodeid.partition("::")[0] == FILE]
    specs = [getattr(item, "callspec", None) for item in own]
    found = [spec.params.get("script") for spec in specs if spec is not None]
    chosen = [script for script in found if isinstance(script, Script)]
    return Pairs(comparison, [SCRIPTS[0], *chosen])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.id)
def test_a_warm_run_equals_a_cold_one(script: Script, pairs: Pairs) -> None:
    check_equal(script, *pairs.of(script))


@pytest.mark.parametrize("script", DIFFERENT, ids=lambda script: script.id)
def test_a_documented_difference_is_there(script: Script, pairs: Pairs) -> None:
    check_different(*pairs.of(script))


def test_a_warm_interpreter_has_begun_long_ago(comparison: Comparison) -> None:
    comparison.run(START)
    time.sleep(2)  # those that are ready wait
    cold = comparison.run(replace(START, env=COLD, warm=False))
    assert (comparison.run(START)["stdout"], cold["stdout"]) == ("long ago\n", "moments ago\n")


@pytest.mark.parametrize("script", [x for x in SCRIPTS if x.random], ids=lambda script: script.id)
def test_chance_is_new_in_every_run(script: Script, pairs: Pairs, comparison: Comparison) -> None:
    outputs = [answer["stdout"] for answer in (*pairs.of(script), comparison.run(script))]
    assert len(set(outputs)) == 3, script.why


@pytest.mark.parametrize("script", [x for x in SCRIPTS if x.shared], ids=lambda script: script.id)
def test_what_copies_share_few_share(script: Script, comparison: Comparison) -> None:
    """The draw of a zygote's start: as many runs as it has copies see the same, no more."""
    drawn = Counter(comparison.run(script)["stdout"] for _ in range(2 * COPIES))
    assert max(drawn.values()) <= COPIES, script.why
    assert comparison.run(replace(script, env=COLD, warm=False))["stdout"] not in drawn


@pytest.mark.parametrize(("name", "value", "source", "printed"), HONOURED)
def test_a_variable_that_python_reads_at_its_start_is_honoured(
    name: str, value: str, source: str, printed: str, comparison: Comparison
) -> None:
    answer = comparison.run(s("honoured", source, env={name: value}, warm=False))
    assert (answer["status"], answer["stdout"].strip()) == ("ok", printed), answer["stderr"]


def test_the_variable_that_sends_a_run_cold_changes_nothing(comparison: Comparison) -> None:
    show = "import os; print(os.environ)"
    warm = comparison.run(s("plain", show))
    cold = comparison.run(s("cold", show, env=COLD, warm=False))
    assert warm["stdout"] == cold["stdout"]


def test_every_run_took_the_path_that_it_should(pairs: Pairs, comparison: Comparison) -> None:
    """By the node's own count of claims that found nothing warm."""
    pairs.of(SCRIPTS[0])
    assert comparison.runs > comparison.cold > 0
    assert comparison.counted_cold() == comparison.cold
