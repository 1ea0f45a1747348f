"""How many sandboxes are kept ahead: never fewer or more than said, more while more are asked for."""

from hypothesis import given
from hypothesis import strategies as st

from sandboxd.node.demand import (
    BURST_HALF_LIFE,
    HALF_LIFE,
    HORIZON,
    HORIZON_MAX,
    REFILLS,
    Demand,
    wanted,
)

counts = st.integers(0, 1000)
rates = st.floats(0, 1e6, allow_nan=False)


@given(rates, counts, counts, st.integers(-1000, 1000))
def test_bounds_hold(rate: float, least: int, more: int, room: int) -> None:
    target = wanted(rate, least=least, most=least + more, room=room)
    assert least <= target <= least + more
    assert target == least or target <= room


@given(rates, counts, counts, counts, st.integers(-1000, 1000))
def test_a_wish_is_met_where_there_is_room(
    rate: float, least: int, more: int, wish: int, room: int
) -> None:
    most = least + more
    target = wanted(rate, least=least, most=most, room=room, wish=wish)
    assert target >= min(wish, most, room)
    assert target == max(target, wanted(rate, least=least, most=most, room=room))
    assert target == least or target <= min(room, most)


@given(rates, rates, counts, counts, counts)
def test_more_demand_never_means_fewer(
    a: float, b: float, least: int, most: int, room: int
) -> None:
    low, high = sorted((a, b))
    assert wanted(low, least=least, most=most, room=room) <= wanted(
        high, least=least, most=most, room=room
    )


@given(st.lists(st.floats(0, 100), max_size=200))
def test_a_rate_is_never_negative_and_fades(times: list[float]) -> None:
    demand = Demand()
    for now in sorted(times):
        demand.note(now)
    rates = [demand.rate(100.0 + step) for step in range(0, 200, 10)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] >= 0
    assert wanted(demand.ahead(100 + 100 * BURST_HALF_LIFE), least=0, most=100, room=100) == 0


def test_a_steady_rate_is_told_about_right() -> None:
    demand = Demand()
    for tick in range(1000):
        demand.note(tick / 10)
    rate = demand.rate(99.9)
    assert 9.0 < rate < 11.0
    assert 20 <= wanted(demand.ahead(99.9), least=1, most=100, room=100) <= 21
    assert round(rate * HORIZON) == 20


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_a_horizon_holds_some_builds_and_has_bounds(builds: list[float]) -> None:
    demand = Demand()
    for seconds in builds:
        demand.built(seconds)
    assert HORIZON <= demand.horizon <= HORIZON_MAX
    least, most = min(builds), max(builds)
    assert demand.horizon >= min(HORIZON_MAX, REFILLS * least) * (1 - 1e-9)
    assert demand.horizon <= max(HORIZON, REFILLS * most) * (1 + 1e-9)


@given(st.floats(0.01, 5), st.floats(0.01, 5))
def test_what_takes_longer_to_build_never_has_fewer_ahead(a: float, b: float) -> None:
    quick, slow = sorted((a, b))
    ahead = []
    for seconds in (quick, slow):
        demand = Demand()
        demand.built(seconds)
        for tick in range(200):
            demand.note(tick / 10)
        ahead.append(demand.ahead(20.0))
    assert ahead[0] <= ahead[1]


def test_a_build_that_was_slow_once_is_forgotten() -> None:
    demand = Demand()
    for seconds in (6.0, *[0.01] * 40):
        demand.built(seconds)
    assert demand.horizon == HORIZON


def test_a_single_run_keeps_nothing_ahead_for_long() -> None:
    demand = Demand()
    demand.note(0.0)
    assert wanted(demand.ahead(HALF_LIFE), least=0, most=8, room=8) == 0


@given(st.integers(2, 60), st.floats(0.0001, 0.008))
def test_a_stock_covers_a_burst_like_the_last(cases: int, pause: float) -> None:
    """A submission of so many cases, and some seconds later the next."""
    demand = Demand()
    for number in range(cases):
        demand.note(1_000 + number * pause)
    after = 1_000 + cases * pause
    assert 0.9 * cases - 1 <= wanted(demand.ahead(after + 5.0), least=0, most=100, room=100)
    assert wanted(demand.ahead(after + BURST_HALF_LIFE), least=0, most=100, room=100) <= cases
    late = after + 10 * BURST_HALF_LIFE
    assert wanted(demand.ahead(late), least=0, most=100, room=100) == 0
