"""How an ended program is judged: one status, by one precedence."""

import errno
import os
import signal
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sandboxd.model import Limits, Status
from sandboxd.native import Failed
from sandboxd.native.core import STAGES
from sandboxd.node.outcome import Facts, Stop, Verdict, classify, signal_name

LIMITS = Limits(cpu_time=1.0, wall_time=2.0)
FATAL = sorted({*range(1, 65)} - {signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT})

exits = st.integers(0, 255).map(lambda code: code << 8)
signals = st.builds(lambda n, core: n | core, st.sampled_from(FATAL), st.sampled_from([0, 0x80]))
failures = st.builds(
    Failed,
    st.sampled_from(STAGES),
    st.sampled_from(sorted(errno.errorcode)),
    st.integers(-1, 1_000),
)
facts = st.builds(
    Facts,
    stops=st.frozensets(st.sampled_from(Stop)),
    wait_status=st.none() | exits | signals,
    failed=st.none() | failures,
    cpu_time=st.sampled_from([0.0, 1.0, 1.000001, 50.0]),
    wall_time=st.sampled_from([0.0, 2.0, 2.000001, 50.0]),
    oom_kills=st.integers(0, 3),
    output_exceeded=st.booleans(),
    scratch_full=st.booleans(),
)

PRECEDENCE: list[tuple[Status, Callable[[Facts], bool]]] = [
    (Status.CANCELLED, lambda f: Stop.CANCELLED in f.stops),
    (Status.MEMORY_EXCEEDED, lambda f: Stop.MEMORY in f.stops or f.oom_kills > 0),
    (Status.CPU_TIME_EXCEEDED, lambda f: Stop.CPU_TIME in f.stops or f.cpu_time > 1.0),
    (Status.WALL_TIME_EXCEEDED, lambda f: Stop.WALL_TIME in f.stops or f.wall_time > 2.0),
    (Status.OUTPUT_EXCEEDED, lambda f: Stop.OUTPUT in f.stops or f.output_exceeded),
]


@given(facts)
def test_first_true_reason_of_the_precedence_wins(facts: Facts) -> None:
    verdict = classify(facts, LIMITS)
    for status, holds in PRECEDENCE:
        if holds(facts):
            assert verdict == Verdict(status, signal="SIGKILL")
            return
    assert verdict.status not in {status for status, _ in PRECEDENCE}


@given(facts)
def test_verdict_has_an_exit_code_or_a_signal_or_a_reason(facts: Facts) -> None:
    verdict = classify(facts, LIMITS)
    assert (verdict.exit_code is None) or (verdict.signal is None)
    assert verdict.exit_code is not None or verdict.signal is not None or verdict.reason
    assert (verdict.status is Status.OK) == (verdict.exit_code == 0)


@given(facts)
def test_only_a_lost_sandbox_or_a_stage_of_ours_is_an_internal_error(facts: Facts) -> None:
    """Whatever a job does, it cannot make us say that we failed."""
    if classify(facts, LIMITS).status is not Status.INTERNAL_ERROR:
        return
    lost = facts.failed is None and facts.wait_status is None
    ours = facts.failed is not None and facts.failed.stage not in ("exec", "cwd", "files")
    assert lost or ours


@given(facts, st.sampled_from(Stop))
def test_one_more_reason_never_gives_a_lower_one(facts: Facts, stop: Stop) -> None:
    order = [status for status, _ in PRECEDENCE]

    def rank(verdict: Verdict) -> int:
        return order.index(verdict.status) if verdict.status in order else len(order)

    more = replace(facts, stops=facts.stops | {stop})
    assert rank(classify(more, LIMITS)) <= rank(classify(facts, LIMITS))


@pytest.mark.parametrize("code", range(256))
def test_exit_code_is_the_programs(code: int) -> None:
    verdict = classify(Facts(wait_status=code << 8), LIMITS)
    status = Status.OK if code == 0 else Status.NONZERO_EXIT
    assert verdict == Verdict(status, exit_code=code)


@pytest.mark.parametrize("number", FATAL)
def test_signal_is_named(number: int) -> None:
    verdict = classify(Facts(wait_status=number), LIMITS)
    expected = {
        signal.SIGSYS: Status.SECURITY_VIOLATION,
        signal.SIGXFSZ: Status.DISK_EXCEEDED,
    }.get(number, Status.SIGNALLED)  # type: ignore[call-overload]
    assert (verdict.status, verdict.signal) == (expected, signal_name(number))
    assert verdict.exit_code is None


def test_real_time_signals_have_names_too() -> None:
    assert [signal_name(number) for number in (11, 34, 35, 64)] == [
        "SIGSEGV", "SIGRTMIN", "SIGRT3", "SIGRTMAX",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wait_status", "status"),
    [
        (0, Status.OK),
        (1 << 8, Status.DISK_EXCEEDED),
        (signal.SIGABRT, Status.DISK_EXCEEDED),
        (signal.SIGSYS, Status.SECURITY_VIOLATION),
    ],
)
def test_full_disk_explains_a_failure_not_a_success(wait_status: int, status: Status) -> None:
    assert classify(Facts(wait_status=wait_status, scratch_full=True), LIMITS).status is status


@pytest.mark.parametrize(
    ("stage", "number", "status", "code"),
    [
        ("exec", errno.ENOENT, Status.NONZERO_EXIT, 127),
        ("exec", errno.ENOTDIR, Status.NONZERO_EXIT, 127),
        ("exec", errno.EACCES, Status.NONZERO_EXIT, 126),
        ("exec", errno.ENOEXEC, Status.NONZERO_EXIT, 126),
        ("exec", errno.E2BIG, Status.NONZERO_EXIT, 126),
        ("cwd", errno.ENOENT, Status.NONZERO_EXIT, 127),
        ("files", errno.EEXIST, Status.NONZERO_EXIT, 126),
        ("files", errno.ENOTDIR, Status.NONZERO_EXIT, 126),
        ("files", errno.ENOSPC, Status.DISK_EXCEEDED, None),
        ("seccomp", errno.EINVAL, Status.INTERNAL_ERROR, None),
    ],
)
def test_program_that_never_started_says_why(
    stage: str, number: int, status: Status, code: int | None
) -> None:
    verdict = classify(Facts(wait_status=127 << 8, failed=Failed(stage, number, 0)), LIMITS)
    assert (verdict.status, verdict.exit_code) == (status, code)
    assert verdict.reason and (os.strerror(number) in verdict.reason or number == errno.ENOSPC)
