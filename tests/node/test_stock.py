"""What the pool decides, over all states of a stock."""

from hypothesis import given
from hypothesis import strategies as st

from sandboxd.node.stock import LOW, QUIET, Step, Stock, backoff, step

MAX_AGE = 100.0
NOW = 1_000.0

ages = st.lists(st.floats(0, 300), max_size=12).map(lambda xs: sorted(xs, reverse=True))
stocks = st.builds(
    lambda ages, **rest: Stock(ready=tuple(NOW - age for age in ages), **rest),
    ages=ages,
    target=st.integers(0, 8),
    building=st.integers(0, 4),
    waiting=st.integers(0, 6),
    failures=st.integers(0, 8),
    failed_at=st.floats(NOW - 20, NOW),
    claimed_at=st.floats(NOW - 3 * QUIET, NOW),
)
slots = st.integers(0, 4)


def after(stock: Stock, slots: int) -> Step:
    return step(stock, now=NOW, max_age=MAX_AGE, slots=slots)


def held_back(stock: Stock) -> bool:
    return stock.failures > 0 and stock.failed_at + backoff(stock.failures) > NOW


def can_wait(stock: Stock, kept: int) -> bool:
    """Runs come one after the other, and the next ones find a sandbox."""
    enough = not stock.waiting and kept >= min(LOW, stock.target / 2)
    return enough and stock.claimed_at + QUIET > NOW


@given(stocks, slots)
def test_never_more_builds_than_slots_nor_than_wanted(stock: Stock, slots: int) -> None:
    todo = after(stock, slots)
    kept = len(stock.ready) - todo.retire
    assert 0 <= todo.build <= slots
    assert todo.build == 0 or kept + stock.building + todo.build <= stock.target + stock.waiting


@given(stocks, slots)
def test_retires_what_is_stale_or_too_many_and_no_more(stock: Stock, slots: int) -> None:
    todo = after(stock, slots)
    kept = stock.ready[todo.retire :]
    assert 0 <= todo.retire <= len(stock.ready)
    assert len(kept) <= stock.target
    assert all(NOW - built_at < MAX_AGE for built_at in kept)
    if todo.retire:
        spared = stock.ready[todo.retire - 1 :]
        assert NOW - spared[0] >= MAX_AGE or len(spared) > stock.target


@given(stocks)
def test_with_slots_enough_everyone_waiting_and_the_target_are_served(stock: Stock) -> None:
    todo = after(stock, 1_000)
    kept = len(stock.ready) - todo.retire
    if held_back(stock) or can_wait(stock, kept):
        assert todo.build == 0
    else:
        assert kept + stock.building + todo.build >= stock.target + stock.waiting


@given(stocks, slots)
def test_held_back_builds_come_again_by_a_timer(stock: Stock, slots: int) -> None:
    """Nothing else would wake the pool: every wait for a build has an end."""
    todo = after(stock, slots)
    kept = len(stock.ready) - todo.retire
    lacking = stock.target + stock.waiting - kept - stock.building > 0
    if held_back(stock) and lacking:
        assert todo.again_in is not None
        assert todo.again_in <= max(stock.failed_at + backoff(stock.failures) - NOW, QUIET) + 1e-6
    elif can_wait(stock, kept) and lacking:
        assert todo.again_in is not None
        assert todo.again_in <= QUIET + 1e-6


@given(stocks, slots)
def test_oldest_kept_sandbox_is_looked_at_when_it_becomes_stale(stock: Stock, slots: int) -> None:
    todo = after(stock, slots)
    kept = stock.ready[todo.retire :]
    if kept:
        assert todo.again_in is not None
        assert 0 <= todo.again_in <= kept[0] + MAX_AGE - NOW + 1e-6


@given(st.integers(0, 6), st.integers(1, 4))
def test_a_stock_at_rest_asks_for_nothing(target: int, slots: int) -> None:
    stock = Stock(target=target, ready=(NOW,) * target)
    todo = after(stock, slots)
    assert (todo.build, todo.retire) == (0, 0)


@given(st.integers(0, 8), st.integers(0, 6), st.integers(1, 4))
def test_repeated_steps_reach_the_target(target: int, waiting: int, slots: int) -> None:
    ready, building = 0, 0
    for _ in range(50):
        stock = Stock(target=target, ready=(NOW,) * ready, building=building, waiting=waiting)
        todo = after(stock, slots - building)
        building += todo.build
        assert building <= slots
        if building == 0:
            break
        building -= 1  # one build ends
        if waiting:
            waiting -= 1
        else:
            ready += 1
    assert (ready, waiting, building) == (target, 0, 0)


@given(st.integers(1, 100))
def test_back_off_grows_to_a_bound(failures: int) -> None:
    assert backoff(0) == 0.0
    assert 0.0 < backoff(failures) <= backoff(failures + 1) <= 10.0
