"""When a wait must end, and when to try again."""

import random
import time
from dataclasses import dataclass

from sandboxd_client.errors import SandboxdError, Timeout

SHORT = 30.0
"""Seconds for a call that no program's run time is part of."""


class Deadline:
    """A point in time that every wait of one call shares."""

    __slots__ = ("_end", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self._end - time.monotonic())

    def check(self) -> float:
        """Seconds left. Raises Timeout if there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise self.passed()
        return left

    def passed(self) -> Timeout:
        return Timeout(f"no answer within {self.seconds:g} s")


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often and after which pauses a failed attempt is repeated."""

    retries: int = 2
    base: float = 0.1
    """Seconds of the first pause; each further one is twice as long."""
    ceiling: float = 10.0

    def pause(self, failures: int, error: SandboxdError, deadline: Deadline) -> float | None:
        """Seconds to wait after the `failures`-th failure in a row, or None to give up.

        What the service asks for is honoured, so an answer that it expects after the deadline
        ends the attempts now.
        """
        if failures > self.retries:
            return None
        pause = min(self.ceiling, self.base * 2 ** (failures - 1))
        # Jitter, so that clients refused together do not come back together.
        pause *= 0.5 + random.random() / 2  # noqa: S311
        if error.retry_after is not None:
            pause = max(pause, error.retry_after)
        return pause if pause < deadline.remaining() else None
