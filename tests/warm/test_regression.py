"""CPython's own regression tests have the same outcomes warm as cold, test by test.

Needs Debian's libpython3.11-testsuite. Minutes of work: `pytest tests/warm/test_regression.py`.
"""

import json
import os
from pathlib import Path

import pytest

from tests.warm.comparison import Comparison
from tests.warm.script import Script

MODULES = (
    "test_argparse", "test_atexit", "test_bufio", "test_builtin", "test_codecs", "test_contextlib",
    "test_dataclasses", "test_enum", "test_exceptions", "test_except_star", "test_exception_group",
    "test_file", "test_fileinput", "test_frame", "test_gc", "test_generators", "test_getpass",
    "test_hash", "test_inspect", "test_json", "test_linecache", "test_locale", "test_module",
    "test_os", "test_print", "test_pkgutil", "test_random", "test_runpy",
    "test_select", "test_signal", "test_site", "test_subprocess", "test_sys", "test_sysconfig",
    "test_tempfile", "test_thread", "test_threading", "test_time", "test_traceback",
    "test_uuid", "test_warnings", "test_zipimport",
)  # fmt: skip
LONG = ("test_pickle", "test_unicodedata", "test_weakref")
"""Minutes of computing that have little to do with how an interpreter starts: `make compat-inside`."""
if os.environ.get("COMPAT") == "all":
    MODULES += LONG
DRIVER = (Path(__file__).parent / "suite.py").read_text()
LIMITS = {"cpu_time": 120, "wall_time": 240, "memory": 1 << 30, "pids": 256, "output": 8 << 20}
TESTS = Path("/usr/lib/python3.11/test")

UNSTEADY: dict[str, str] = {}
"""Tests whose outcome differs between two cold runs too, and why."""

pytestmark = [
    pytest.mark.root,
    pytest.mark.service,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (TESTS / "test_atexit.py").exists(), reason="libpython3.11-testsuite is not installed"
    ),
]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_of_cpythons_tests_has_the_same_outcomes(
    module: str, comparison: Comparison
) -> None:
    if not any(TESTS.glob(f"{module}*")):
        pytest.skip("this version has no such module")
    script = Script(id=module, source=DRIVER, args=(module,), limits=LIMITS)
    (warm, cold) = comparison.pairs([script])[module]
    assert (warm["status"], warm["exit_code"]) == (cold["status"], cold["exit_code"])
    assert cold["status"] == "ok", cold["stderr"][-2_000:]
    there, here = json.loads(cold["stdout"]), json.loads(warm["stdout"])
    assert there
    differ = {
        test: (here.get(test), there.get(test))
        for test in {*here, *there} - UNSTEADY.keys()
        if here.get(test) != there.get(test)
    }
    assert not differ, "warm and cold outcomes"
