"""How many sandboxes of a template to keep ahead, by how many were lately asked for and how long one
takes to build. Pure."""

import math

HALF_LIFE = 10.0
"""Seconds in which an arrival loses half of its weight."""
HORIZON, HORIZON_MAX = 2.0, 30.0
"""Seconds of arrivals that the stock shall cover, at least and at most."""
REFILLS = 4.0
"""Builds one after the other that it shall cover: what is slow to build is kept ahead for longer."""
NEWEST = 0.2
"""Share of the newest build in what a build is taken to last."""
BURST = 0.5
"""Seconds without arrivals that end a burst, or that one lasts at most."""
BURST_HALF_LIFE = 60.0
"""Seconds in which a burst is taken to be half as large: the next submission may be like the last."""
LOOK_AGAIN = 5.0
"""Seconds after which a stock above its least is looked at again, though nobody came."""


class Demand:
    """Arrivals per second, the later ones counting more, and the largest burst of them. Times are of
    one monotonic clock."""

    def __init__(self) -> None:
        self._weight, self._at = 0.0, 0.0
        self._burst, self._began = 0, -math.inf
        self._largest, self._largest_at = 0.0, 0.0
        self._build = 0.0

    def note(self, now: float) -> None:
        """Somebody asks."""
        self._weight = _faded(self._weight, now - self._at, HALF_LIFE) + 1.0
        if now - self._at > BURST or now - self._began > BURST:
            self._burst, self._began = 0, now
        self._at = max(self._at, now)
        self._burst += 1
        if self._burst > self._past(now):
            self._largest, self._largest_at = float(self._burst), now

    def built(self, seconds: float) -> None:
        """One was built, and took so long."""
        self._build = self._build + NEWEST * (seconds - self._build) if self._build else seconds

    @property
    def horizon(self) -> float:
        """Seconds of arrivals to cover, by what a build takes."""
        return min(HORIZON_MAX, max(HORIZON, REFILLS * self._build))

    def rate(self, now: float) -> float:
        return _faded(self._weight, now - self._at, HALF_LIFE) * math.log(2) / HALF_LIFE

    def ahead(self, now: float) -> float:
        """What a stock has to cover: some seconds of arrivals, or a burst like the largest lately."""
        return max(self.rate(now) * self.horizon, self._past(now))

    def _past(self, now: float) -> float:
        return _faded(self._largest, now - self._largest_at, BURST_HALF_LIFE)


def _faded(weight: float, seconds: float, half_life: float) -> float:
    return weight * math.pow(0.5, max(0.0, seconds) / half_life)


def wanted(ahead: float, *, least: int, most: int, room: int, wish: int = 0) -> int:
    """The target: never below `least`, above it no more than `most`, nor than there is `room` for
    beside the other templates. A `wish` is a least that has to find room too."""
    # What is left of a single run some time ago is no demand.
    return max(least, min(max(math.ceil(ahead - 0.9), wish), most, room))
