"""The comparison's own data, and what the documents say of it."""

from pathlib import Path

import pytest

from sandboxd.policy import load
from sandboxd.settings import Settings
from tests.warm.cases import SCRIPTS, THEMES
from tests.warm.compare import differences, mistake
from tests.warm.known import DIFFERENT
from tests.warm.script import Script, s

DOCUMENT = (Path(__file__).parents[2] / "docs" / "warm.md").read_text()
ANSWER = {
    "id": "run_x",
    "status": "ok",
    "exit_code": 0,
    "signal": None,
    "stdout": "at 0x7f0011223344\n",
    "stderr": "",
    "stdout_truncated": False,
    "stderr_truncated": False,
    "encoding": "utf-8",
    "reason": None,
    "isolation": ["seccomp"],
}
PLAIN = s("plain", "")


def test_scripts_have_names_of_their_own_and_are_as_many_as_the_document_says() -> None:
    names = [script.id for script in (*SCRIPTS, *DIFFERENT)]
    assert len(set(names)) == len(names)
    assert len(SCRIPTS) > 500
    assert all(theme.SCRIPTS for theme in THEMES)


def test_what_is_normalised_or_random_has_a_reason() -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        Script(id="x", normal=(("a", "b"),))
    with pytest.raises(ValueError, match="needs a reason"):
        Script(id="x", random=True)


@pytest.mark.parametrize("language", ["python", "node", "java"])
def test_the_document_names_every_prefix_that_sends_a_run_cold(language: str) -> None:
    warm = load(Settings().policy_path).languages[language].warm
    assert warm is not None
    assert not [x for x in (*warm.cold_env, *warm.cold_files) if f"`{x}`" not in DOCUMENT]


@pytest.mark.parametrize(
    "change",
    [
        {"status": "signalled"}, {"exit_code": 1}, {"signal": "SIGINT"}, {"reason": "x"},
        {"stdout_truncated": True}, {"isolation": []}, {"stdout": "at 0x7f0011223355\n"},
        {"stderr": "x"}, {"stdout": "at 0x7f0011223344\r\n"}, {"stdout": "at 0x7f0011223344"},
    ],
    ids=str,
)  # fmt: skip
def test_each_difference_is_seen(change: dict[str, object]) -> None:
    assert differences(PLAIN, {**ANSWER, **change}, ANSWER)


def test_equal_answers_do_not_differ_whatever_their_transport() -> None:
    coded = {**ANSWER, "stdout": "YXQgMHg3ZjAwMTEyMjMzNDQK", "encoding": "base64"}
    assert differences(PLAIN, coded, ANSWER) == []


def test_normalising_hides_what_it_names_and_nothing_else() -> None:
    script = s("x", "", normal=((r"0x[0-9a-f]+", "0x"),), why="an address")
    assert not differences(script, {**ANSWER, "stdout": "at 0x7fff\n"}, ANSWER)
    assert differences(script, {**ANSWER, "stdout": "At 0x7fff\n"}, ANSWER)


def test_a_cold_run_that_ends_otherwise_than_meant_proves_nothing() -> None:
    assert mistake(PLAIN, ANSWER) is None
    assert mistake(PLAIN, {**ANSWER, "status": "nonzero_exit"})
