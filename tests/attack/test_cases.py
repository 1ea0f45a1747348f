"""The suite itself: enough of it, well-formed, and able to fail."""

from collections import Counter
from typing import Any

from tests.attack.case import Body, Lines, Outcome, Poised, errno_name
from tests.attack.cases import power
from tests.attack.cases.power import DEEDS
from tests.attack.judging import Call, Channel, Deed, View
from tests.attack.outside import parse
from tests.attack.suite import CASES


class Pretence:
    """An arena in which everything is as the test says."""

    word = "word"

    def __init__(self, inside: str, outside: str, policy: str = "EPERM") -> None:
        self._inside, self._outside, self._policy = inside, outside, policy

    def run(self, body: Body) -> dict[str, Any]:
        return {"status": "ok", "stdout": self._inside, "stderr": ""}

    def post(self, content: bytes, content_type: str) -> tuple[int, dict[str, Any]]:
        raise NotImplementedError

    def outside(self, argv: tuple[str, ...], *, network: bool = True, pids: bool = True) -> Lines:
        return parse(self._outside)

    def verdict(self, number: int, args: list[int]) -> str:
        return self._policy

    def poised(self, word: str, body: Body) -> Poised:
        raise NotImplementedError


def _line(**said: str) -> str:
    return "".join(f'{{"{key}": "{value}"}}\n' for key, value in said.items())


def test_ids_name_one_case_each() -> None:
    assert [name for name, count in Counter(case.id for case in CASES).items() if count > 1] == []


def test_there_are_enough() -> None:
    themes = Counter(case.theme for case in CASES)
    assert sum(themes.values()) >= 150
    assert min(themes.values()) >= 2, themes


def test_a_denial_counts_only_if_the_outside_is_not_denied() -> None:
    case = Call("mount")
    numbers = {"call": "165 1 2 3 4 5 6"}
    denied = _line(mount="errno 1", **numbers)
    assert case.run(Pretence(denied, _line(mount="errno 14"))).outcome is Outcome.HELD
    assert case.run(Pretence(denied, denied)).outcome is Outcome.VACUOUS
    assert case.run(Pretence(_line(mount="errno 14", **numbers), "")).outcome is Outcome.BROKEN
    assert case.run(Pretence(denied, "", policy="ENOSYS")).outcome is Outcome.BROKEN
    assert case.run(Pretence(denied, "", policy="allow")).outcome is Outcome.BROKEN


def test_a_deed_that_works_breaks_its_case() -> None:
    case = Deed("pivot", "", "")
    assert case.run(Pretence(_line(pivot="ok"), "")).outcome is Outcome.BROKEN
    failed = _line(pivot="errno 1")
    assert case.run(Pretence(failed, _line(pivot="ok"))).outcome is Outcome.HELD
    assert case.run(Pretence(failed, failed)).outcome is Outcome.VACUOUS


def test_a_view_of_something_else_breaks_its_case() -> None:
    case = View("cwd", "", ("/work",), "")
    assert case.run(Pretence(_line(cwd="/"), "")).outcome is Outcome.BROKEN
    assert case.run(Pretence(_line(cwd="/work"), _line(cwd="/"))).outcome is Outcome.HELD
    assert case.run(Pretence(_line(cwd="/work"), _line(cwd="/work"))).outcome is Outcome.VACUOUS


def test_a_bit_that_passes_breaks_its_case_and_one_that_is_known_must_pass() -> None:
    passed, outside = _line(sought="found"), _line(held="yes", sought="found")
    case = Channel("tmp", "", used_up=True)
    assert case.run(Pretence(passed, outside)).outcome is Outcome.BROKEN
    assert case.run(Pretence(_line(sought="nothing"), outside)).outcome is Outcome.HELD
    known = Channel("tmp", "", used_up=True, open_because="why")
    assert known.run(Pretence(passed, outside)).outcome is Outcome.OPEN
    assert known.run(Pretence(_line(sought="nothing"), outside)).outcome is Outcome.BROKEN


def test_what_is_said_of_deeds_is_said_of_deeds_that_exist() -> None:
    names = {deed.name for deed in DEEDS}
    assert len(names) == len(DEEDS)
    for said in (
        power.ALONE, power.APPARMOR, power.KEEP, power.NEEDED, power.OF_THE_HOSTS_TREE,
    ):  # fmt: skip
        assert set(said) <= names


def test_errnos_are_named() -> None:
    assert errno_name("errno 1") == "EPERM"
    assert errno_name("errno 95") == "EOPNOTSUPP"
    assert errno_name("ok") == "ok"
