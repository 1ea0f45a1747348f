"""A Java program in a JVM that waited equals one in a cold `java Main`, byte for byte."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.settings import Settings
from tests.warm.compare import Answer, check_different, check_equal
from tests.warm.comparison import Comparison, Pairs
from tests.warm.conftest import FULL_WITHIN, comparing
from tests.warm.script import Script
from tests.warm.scripts.java import DIFFERENT, JAVA

READY = 6
MAIN = Path(__file__).parent / "java" / "Main.java"

pytestmark = [
    pytest.mark.root,
    pytest.mark.service,
    pytest.mark.timeout(200),
    pytest.mark.skipif(shutil.which("javac") is None, reason="there is no JDK"),
]


def own() -> dict[str, str]:
    """The shipped language, with one machine that waits; and the same without a compiler: what is sent
    are classes."""
    java = (Settings().policy_path / "languages" / "java.toml").read_text()
    return {"java": java, "jvm": without_compiler(java)}


def without_compiler(text: str) -> str:
    text = re.sub(r"(?ms)^\[compile\].*?^artifacts = .*?$", "", text)
    for name, value in (("name", '"jvm"'), ("source", '"Main.class"'), ("pool_max", "0")):
        text = re.sub(rf"(?m)^{name} = .*$", f"{name} = {value}", text, count=1)
    return re.sub(r"(?m)^pool_size = .*$", f"pool_size = {READY}", text)


class Machines:
    """Answers of scripts, whose classes are put in."""

    def __init__(self, comparison: Comparison, classes: dict[str, str | bytes]) -> None:
        self.comparison, self._classes = comparison, classes
        self._pairs = Pairs(comparison, [self.whole(script) for script in (*JAVA, *DIFFERENT)])

    def whole(self, script: Script) -> Script:
        return replace(script, files={**self._classes, **script.files})

    def of(self, script: Script) -> tuple[Answer, Answer]:
        return self._pairs.of(self.whole(script))


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    directory = tmp_path_factory.mktemp("java")
    subprocess.run(["javac", "-encoding", "UTF-8", "-d", directory / "classes", MAIN], check=True)
    classes: dict[str, str | bytes] = {
        path.name: path.read_bytes() for path in (directory / "classes").glob("*.class")
    }
    with comparing(directory, 0, READY, "jvm", own=own()) as comparison:
        yield Machines(comparison, classes)


@pytest.mark.parametrize("script", JAVA, ids=lambda script: script.id)
def test_a_warm_run_equals_a_cold_one(script: Script, machines: Machines) -> None:
    check_equal(script, *machines.of(script))


@pytest.mark.parametrize("script", DIFFERENT, ids=lambda script: script.id)
def test_a_documented_difference_is_there(script: Script, machines: Machines) -> None:
    check_different(*machines.of(script))


@pytest.mark.parametrize("script", [x for x in JAVA if x.random], ids=lambda script: script.id)
def test_chance_is_new_in_every_run(script: Script, machines: Machines) -> None:
    more = machines.comparison.run(machines.whole(script))
    assert len({answer["stdout"] for answer in (*machines.of(script), more)}) == 3


def test_a_program_that_was_compiled_runs_in_a_machine_that_waited(machines: Machines) -> None:
    """Of its two sandboxes the compiler's alone is one that nobody had built."""
    deadline = time.monotonic() + FULL_WITHIN
    while machines.comparison.counted('sandboxd_node_pool{.*template="default.java"}') < 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    source = 'public class Main { public static void main(String[] a) { System.out.print("hi"); } }'
    script = Script(id="compiled", language="java", source=source, warm=False)
    answer = machines.comparison.run(script)
    assert (answer["status"], answer["stdout"]) == ("ok", "hi")
    assert machines.comparison.counted_cold() == machines.comparison.cold


def test_each_run_took_its_path(machines: Machines) -> None:
    for script in (*JAVA, *DIFFERENT):
        machines.of(script)
    assert machines.comparison.counted_cold() == machines.comparison.cold


def test_the_start_is_not_the_run_s_time(machines: Machines) -> None:
    """CPU seconds of what a cold start takes before the main class are not counted to a warm run."""
    warm, cold = machines.of(JAVA[0])
    assert warm["cpu_time"] < cold["cpu_time"] / 1.5
