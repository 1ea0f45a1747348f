import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.measurement import Failure, Tally, histogram, merged

LATENCIES = st.lists(st.integers(min_value=0, max_value=4 * 10**12), max_size=50)


@given(LATENCIES, LATENCIES)
def test_merging_keeps_every_sample(first: list[int], second: list[int]) -> None:
    measured = []
    for values in (first, second):
        tally = Tally()
        for value in values:
            tally.right(value)
        measured.append(tally.measurement(1.0, {}))
    assert merged(measured).get_total_count() == len(first) + len(second)


@given(st.integers(min_value=1_000, max_value=10**12))
def test_a_latency_is_kept_to_three_digits(nanoseconds: int) -> None:
    kept = histogram([nanoseconds]).get_value_at_percentile(50) * 1000
    assert kept == pytest.approx(nanoseconds, rel=1e-3, abs=1_000)


def test_a_job_given_up_counts_among_the_latencies_and_a_quick_failure_does_not() -> None:
    tally = Tally()
    tally.right(1_000_000)
    tally.wrong(Failure("timeout"), 9_000_000_000)
    tally.wrong(Failure("unsent"), 8_000_000_000)
    tally.wrong(Failure("http_429", "queue full"), 100_000)
    measured = tally.measurement(2.0, {"node": 0.5})
    assert measured.samples == 3
    assert measured.percentile_ms(100) == pytest.approx(9_000, rel=1e-3)
    assert measured.errors == {"timeout": 1, "unsent": 1, "http_429": 1}
    assert measured.examples["http_429"] == "queue full"
    assert (measured.per_second, measured.failed) == (0.5, 3)
    assert measured.cpu_ms_per_job == {"node": 500.0}


def test_without_a_right_answer_nothing_is_divided_by_zero() -> None:
    measured = Tally().measurement(0.0, {"node": 1.0})
    assert (measured.percentile_ms(99), measured.per_second, measured.cpu_ms_per_job) == (0, 0, {})
