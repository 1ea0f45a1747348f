"""How many sandboxes of a template to keep ahead, by how many were lately asked for. Pure."""

import math

HALF_LIFE = 10.0
"""Seconds in which an arrival loses half of its weight."""
HORIZON = 2.0
"""Seconds of arrivals that the stock shall cover: some times what a refill takes."""
LOOK_AGAIN = 5.0
"""Seconds after which a stock above its least is looked at again, though nobody came."""
_DECAY = math.log(2) / HALF_LIFE


class Demand:
    """Arrivals per second, the later ones counting more. Times are of one monotonic clock."""

    def __init__(self) -> None:
        self._weight, self._at = 0.0, 0.0

    def note(self, now: float) -> None:
        """Somebody asks."""
        self._weight = self._left(now) + 1.0
        self._at = max(self._at, now)

    def rate(self, now: float) -> float:
        return self._left(now) * _DECAY

    def _left(self, now: float) -> float:
        return self._weight * math.exp(-_DECAY * max(0.0, now - self._at))


def wanted(rate: float, *, least: int, most: int, room: int) -> int:
    """The target for so many arrivals per second: never below `least`, above it no more than `most`,
    nor than there is `room` for beside the other templates."""
    ahead = math.ceil(rate * HORIZON - 0.1)  # a single run some seconds ago is no demand
    return max(least, min(ahead, most, room))
