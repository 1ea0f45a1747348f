"""What the pool should do next. Pure: the state of one template's stock in, decisions out."""

import math

from msgspec import Struct

_BACKOFF_FIRST, _BACKOFF_MAX = 0.1, 10.0
QUIET = 0.01
"""Seconds without a claim after which a stock is filled up. Before, runs have the machine: work that can
wait would stand in their way."""
LOW = 8
"""Fewer ready sandboxes cannot wait: the next claims would find none. Or half of the target."""


class Stock(Struct, frozen=True, kw_only=True):
    """The warm sandboxes of one template at one moment. Times are seconds of one monotonic clock."""

    target: int
    ready: tuple[float, ...] = ()
    """When each ready sandbox was built, oldest first."""
    building: int = 0
    waiting: int = 0
    """Runs that wait for a sandbox."""
    failures: int = 0
    """Builds that failed since the last that did not."""
    failed_at: float = 0.0
    claimed_at: float = -math.inf
    """When a sandbox of any template was last asked for."""


class Step(Struct, frozen=True):
    build: int
    """Builds to start now."""
    retire: int
    """Ready sandboxes to destroy, the oldest."""
    again_in: float | None
    """Seconds after which to ask again if nothing happens, or None."""


def backoff(failures: int) -> float:
    """Seconds to wait after that many failures in a row; 0 after none."""
    if failures == 0:
        return 0.0
    return min(_BACKOFF_MAX, _BACKOFF_FIRST * 2.0 ** min(failures - 1, 16))


def step(stock: Stock, *, now: float, max_age: float, slots: int) -> Step:
    """Replace what is too old, keep the target, serve who waits; at most `slots` builds at once."""
    stale = sum(1 for built_at in stock.ready if now - built_at >= max_age)
    surplus = max(0, len(stock.ready) - stock.target)
    retire = max(stale, surplus)
    kept = stock.ready[retire:]
    wanted = stock.target + stock.waiting - len(kept) - stock.building
    hold = stock.failed_at + backoff(stock.failures) - now if stock.failures else 0.0
    if stock.waiting == 0 and len(kept) >= min(LOW, stock.target / 2):
        hold = max(hold, stock.claimed_at + QUIET - now)
    build = max(0, min(wanted, slots)) if hold <= 0 else 0
    again = [kept[0] + max_age - now] if kept else []
    if hold > 0 and wanted > 0:
        again.append(hold)
    return Step(build, retire, max(0.0, min(again)) if again else None)
