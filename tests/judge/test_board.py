"""The order of cases: what is reported never depends on how parallel cases interleave."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.judge.board import Board
from sandboxd.judge.scoring import ScoringError
from sandboxd.model.judgement import Verdict
from sandboxd.model.submission import Case, Group

AC, WA = Verdict.ACCEPTED, Verdict.WRONG_ANSWER


@st.composite
def problems(draw):
    """Groups in order, each requiring earlier ones only, and cases in the order of their groups."""
    groups, cases = [], []
    for number in range(draw(st.integers(0, 4))):
        earlier = [group.name for group in groups]
        groups.append(
            Group(
                name=f"g{number}",
                aggregate=draw(st.sampled_from(["sum", "min", "max", "avg"])),
                stop=draw(st.sampled_from([None, True, False])),
                requires=draw(st.lists(st.sampled_from(earlier), unique=True)) if earlier else [],
                ignored=draw(st.booleans()),
                points=draw(st.sampled_from([None, 10.0])),
            )
        )
        cases += [Case(group=f"g{number}")] * draw(st.integers(0, 3))
    cases += [Case()] * draw(st.integers(0, 4))
    verdicts = draw(
        st.lists(st.sampled_from([AC, AC, WA]), min_size=len(cases), max_size=len(cases))
    )
    return cases, groups, verdicts, draw(st.booleans())


def play(problem, parallel, pick):
    """Judge with at most `parallel` cases at once; `pick` chooses which of the running ends next."""
    cases, groups, verdicts, stop = problem
    board = Board(cases, groups, stop_on_failure=stop)
    running, started = [], []
    while True:
        while len(running) < parallel and (index := board.next()) is not None:
            board.start(index)
            running.append(index)
            started.append(index)
        if not running:
            break
        index = running.pop(pick(len(running)))
        needless = board.record(index, verdicts[index], float(verdicts[index] is AC))
        assert needless <= set(running)
    assert board.over
    assert len(started) == len(set(started))
    return board


@given(problems(), st.integers(1, 5), st.data())
def test_any_interleaving_reports_what_one_at_a_time_reports(problem, parallel, data):
    alone = play(problem, 1, lambda count: 0)
    together = play(problem, parallel, lambda count: data.draw(st.integers(0, count - 1)))
    assert together.shown() == alone.shown()
    assert together.total() == alone.total()


@given(problems())
def test_score_is_between_nothing_and_the_maximum(problem):
    total = play(problem, 2, lambda count: 0).total()
    assert 0 <= total.score <= total.max_score + 1e-6
    accepted = total.verdict is AC
    assert accepted or WA in problem[2]


@given(st.integers(1, 8), st.integers(0, 7), st.integers(1, 4))
def test_stop_shows_nothing_after_the_first_failure(count, bad, parallel):
    bad %= count
    verdicts = [WA if index == bad else AC for index in range(count)]
    board = play(([Case()] * count, [], verdicts, True), parallel, lambda running: running - 1)
    assert board.shown() == list(range(bad + 1))
    assert board.total().verdict is WA


def test_group_runs_only_after_the_groups_that_it_requires_were_accepted():
    cases = [Case(group="hard"), Case(group="easy")]
    groups = [Group(name="hard", requires=["easy"], points=70), Group(name="easy", points=30)]
    board = Board(cases, groups, stop_on_failure=False)
    assert board.next() == 1
    board.start(1)
    assert board.next() is None
    assert not board.over
    board.record(1, WA, 0.0)
    assert board.next() is None
    assert board.over
    assert board.shown() == [1]
    assert board.total().max_score == 100


def test_points_of_a_sum_group_are_shared_by_cases_that_name_none():
    cases = [Case(group="g", points=40), Case(group="g"), Case(group="g")]
    board = Board(cases, [Group(name="g", aggregate="sum", points=100)], stop_on_failure=False)
    assert board.points == [40, 30, 30]


def test_nested_minimum_of_sums():
    cases = [Case(group="a"), Case(group="a"), Case(group="b")]
    groups = [
        Group(name="top"),
        Group(name="a", parent="top", aggregate="sum"),
        Group(name="b", parent="top", aggregate="sum", points=5),
    ]
    board = play((cases, groups, [AC, WA, AC], False), 1, lambda count: 0)
    total = board.total()
    assert total.max_score == 2  # the least of 2 and 5
    assert {group.name: group.score for group in total.groups}["a"] == 1


def test_ignored_group_decides_nothing():
    cases = [Case(group="sample"), Case()]
    groups = [Group(name="sample", ignored=True)]
    board = play((cases, groups, [WA, AC], True), 1, lambda count: 0)
    assert board.shown() == [0, 1]
    assert board.total().verdict is AC
    assert board.total().max_score == 1


@pytest.mark.parametrize(
    "groups",
    [
        [Group(name="a", requires=["a"])],
        [Group(name="a", requires=["b"]), Group(name="b", requires=["a"])],
        [Group(name="a", parent="b"), Group(name="b", parent="a")],
        [Group(name="a", parent="b"), Group(name="b", requires=["a"])],
        [
            Group(name="c"),
            Group(name="d", parent="c", requires=["a"]),
            Group(name="a", requires=["c"]),
        ],
        [Group(name="a", parent="nowhere")],
        [Group(name="a"), Group(name="a")],
        [Group(name=f"g{n}", parent=f"g{n + 1}" if n < 40 else None) for n in range(41)],
    ],
)
def test_groups_that_cannot_be_judged_are_refused(groups):
    with pytest.raises(ScoringError):
        Board([Case(group=groups[0].name)], groups, stop_on_failure=False)


def test_case_of_an_unknown_group_is_refused():
    with pytest.raises(ScoringError):
        Board([Case(group="x")], [], stop_on_failure=False)
