"""Checkers: what each forgives, and what none does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.judge.checkers import Checked, check
from sandboxd.judge.conventions import Reply, call_checker, call_interactor, read
from sandboxd.judge.verdicts import of_interaction, of_status
from sandboxd.model.judgement import Verdict
from sandboxd.model.status import Status
from sandboxd.model.submission import Exact, Floats, Lines, Program, SortedLines, Tokens

AC, WA, PE, IE = (
    Verdict.ACCEPTED,
    Verdict.WRONG_ANSWER,
    Verdict.PRESENTATION_ERROR,
    Verdict.INTERNAL_ERROR,
)


@pytest.mark.parametrize(
    ("checker", "output", "answer", "verdict"),
    [
        (Exact(), b"1 2\n", b"1 2\n", AC),
        (Exact(), b"1 2", b"1 2\n", PE),
        (Exact(), b"1 3\n", b"1 2\n", WA),
        (Lines(), b"1 2  \r\n\n\n", b"1 2", AC),
        (Lines(), b"1  2", b"1 2", WA),
        (Lines(), b"\n1", b"1", WA),
        (Lines(), b"", b"\n \n", AC),
        (SortedLines(), b"b\na\n", b"a\nb", AC),
        (SortedLines(), b"a\na\n", b"a\nb", WA),
        (Tokens(), b"a\n b\t", b"a b", AC),
        (Tokens(), b"a B", b"a b", WA),
        (Tokens(case_sensitive=False), b"YES no", b"yes NO", AC),
        (Tokens(), b"a", b"a b", WA),
        (Tokens(), b"a b c", b"a b", WA),
        (Tokens(space_sensitive=True), b"a  b\n", b"a b\n", WA),
        (Tokens(space_sensitive=True), b"a b\n", b"a b\n", AC),
        (Floats(absolute=1e-6), b"0.3333333", b"0.33333333333", AC),
        (Floats(absolute=1e-6, relative=0), b"1000.01", b"1000", WA),
        (Floats(absolute=0, relative=1e-4), b"1000.01", b"1000", AC),
        (Floats(), b"1e3 x", b"1000 x", AC),
        (Floats(absolute=1e300), b"nan", b"1", WA),
        (Floats(absolute=1e300), b"inf", b"1", WA),
        (Floats(absolute=1e300), b"1e9999", b"1", WA),
        (Floats(absolute=1e300), b"0x10", b"16", WA),
        (Floats(absolute=1e300), b"1_0", b"10", WA),
        (Floats(), b"-0", b"0", AC),
    ],
)
def test_verdict_of_builtin_checker(checker, output, answer, verdict):
    assert check(checker, output, answer).verdict is verdict


@given(st.binary(), st.sampled_from([Exact(), Lines(), Tokens(), Floats(), SortedLines()]))
def test_every_checker_accepts_the_answer_itself_and_whatever_has_no_answer(text, checker):
    assert check(checker, text, text).verdict is AC
    assert check(checker, text, None).verdict is AC


@given(st.binary(), st.binary(), st.sampled_from([Lines(), Tokens(), Floats(), SortedLines()]))
def test_what_exact_accepts_every_checker_accepts(output, answer, checker):
    if check(Exact(), output, answer).verdict is AC:
        assert check(checker, output, answer).verdict is AC


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_message_of_a_wrong_answer_is_short(output, answer):
    for checker in (Exact(), Lines(), Tokens(), Floats(), SortedLines()):
        assert len(check(checker, output, answer).message) < 1000


def test_a_number_of_a_million_digits_is_compared_as_a_word():
    digits = b"1" * 1_000_000
    assert check(Floats(absolute=1.0), digits, b"1").verdict is WA


@pytest.mark.parametrize(
    ("code", "stderr", "verdict", "score"),
    [
        (0, b"ok", AC, 1.0),
        (1, b"wrong", WA, 0.0),
        (2, b"", PE, 0.0),
        (8, b"", PE, 0.0),
        (7, b"points 0.25 nearly", WA, 0.25),
        (7, b"points 1", AC, 1.0),
        (7, b"points 7", IE, 0.0),
        (7, b"nothing", IE, 0.0),
        (3, b"FAIL jury has no answer", IE, 0.0),
        (42, b"", IE, 0.0),
    ],
)
def test_testlib_exit_codes(code, stderr, verdict, score):
    status = Status.OK if code == 0 else Status.NONZERO_EXIT
    found = read(Program(language="cpp"), Reply(status=status, exit_code=code, stderr=stderr))
    assert (found.verdict, found.score) == (verdict, score)


@pytest.mark.parametrize(
    ("code", "files", "points", "verdict", "score"),
    [
        (42, {}, 1, AC, 1.0),
        (43, {"judgemessage.txt": b"no"}, 1, WA, 0.0),
        (0, {}, 1, IE, 0.0),
        (42, {"score.txt": b"30\n"}, 60, WA, 0.5),
        (42, {"score_multiplier.txt": b"0.5"}, 60, WA, 0.5),
        (42, {"score.txt": b"-1"}, 60, IE, 0.0),
        (42, {"score.txt": b"nan"}, 60, IE, 0.0),
    ],
)
def test_icpc_exit_codes(code, files, points, verdict, score):
    program = Program(language="cpp", convention="icpc", scoring=True)
    status = Status.OK if code == 0 else Status.NONZERO_EXIT
    given_files = {f"judge/feedback/{name}": data for name, data in files.items()}
    found = read(program, Reply(status=status, exit_code=code, files=given_files), points)
    assert (found.verdict, found.score) == (verdict, score)


@pytest.mark.parametrize("status", [s for s in Status if s not in (Status.OK, Status.NONZERO_EXIT)])
def test_a_checker_that_breaks_a_limit_or_crashes_is_an_internal_error(status):
    assert read(Program(language="c"), Reply(status=status, exit_code=None)).verdict is IE


def test_calls_follow_the_conventions():
    testlib = Program(language="cpp", args=["-x"])
    icpc = Program(language="cpp", convention="icpc", args=["-x"])
    call = call_checker(testlib, b"in", b"out", b"ans", ["-y"])
    assert call.args == ["judge/input", "judge/output", "judge/answer", "-x", "-y"]
    assert dict(call.files)["judge/output"] == b"out"
    call = call_checker(icpc, b"in", b"out", b"ans")
    assert call.args == ["judge/input", "judge/answer", "judge/feedback/", "-x"]
    assert call.stdin == b"out"
    assert call_interactor(testlib, b"in", b"ans").collect == ["judge/output"]


@pytest.mark.parametrize("status", list(Status))
def test_every_end_but_a_good_one_has_a_verdict_of_its_own(status):
    assert (of_status(status) is None) == (status is Status.OK)


ok, wa, ie = Checked(AC, 1.0), Checked(WA, 0.0), Checked(IE, 0.0)


@pytest.mark.parametrize(
    ("program", "interactor", "first", "verdict"),
    [
        (Status.OK, ok, True, AC),
        (Status.OK, wa, False, WA),
        (Status.OK, ie, False, IE),
        (Status.SIGNALLED, wa, True, WA),
        (Status.SIGNALLED, wa, False, Verdict.RUNTIME_ERROR),
        (Status.NONZERO_EXIT, ok, True, Verdict.RUNTIME_ERROR),
        (Status.SIGNALLED, ie, True, IE),
        (Status.SIGNALLED, ie, False, Verdict.RUNTIME_ERROR),
        (Status.WALL_TIME_EXCEEDED, ie, False, Verdict.TIME_LIMIT),
        (Status.CPU_TIME_EXCEEDED, wa, True, WA),
        (Status.CPU_TIME_EXCEEDED, ok, True, Verdict.TIME_LIMIT),
        (Status.MEMORY_EXCEEDED, wa, False, Verdict.MEMORY_LIMIT),
    ],
)
def test_verdict_of_an_interaction(program, interactor, first, verdict):
    assert of_interaction(program, interactor, interactor_first=first).verdict is verdict
