"""When a sandbox is to end or to pause. Pure: seconds of any clock go in, a decision comes out."""

from enum import Enum
from typing import Literal

from msgspec import Struct

from sandboxd.model.session import EndReason


class Step(Enum):
    NONE = "none"
    KILL = "kill"
    PAUSE = "pause"


class Lifetime(Struct, kw_only=True):
    timeout: float
    """Time to live, seconds."""
    idle_timeout: float | None
    on_timeout: Literal["kill", "pause"]
    since: float
    """When the time to live began."""
    active: float
    """When it was last used."""
    busy: int = 0
    """Calls that are being served: it is not idle then."""
    paused: bool = False

    @property
    def expires(self) -> float:
        return self.since + self.timeout

    def extend(self, now: float, timeout: float | None) -> None:
        if timeout is not None:
            self.timeout = timeout
        self.since = self.active = now

    def woken(self, now: float) -> None:
        """It runs again: also a time to live that was over begins anew."""
        self.paused = False
        self.active = now
        if now >= self.expires:
            self.since = now


class Decision(Struct, frozen=True):
    step: Step
    reason: EndReason
    again: float | None
    """When to ask again at the latest; None: not before something happens."""


def decide(life: Lifetime, now: float) -> Decision:
    """What time asks for. A paused sandbox that would pause again waits; one that kills is killed
    paused, too."""
    step = Step.PAUSE if life.on_timeout == "pause" else Step.KILL
    if life.paused and step is Step.PAUSE:
        return Decision(Step.NONE, EndReason.TIMEOUT, None)
    if now >= life.expires:
        return Decision(step, EndReason.TIMEOUT, None)
    again = life.expires
    if life.idle_timeout is not None and life.busy == 0 and not life.paused:
        idle_at = life.active + life.idle_timeout
        if now >= idle_at:
            return Decision(step, EndReason.IDLE_TIMEOUT, None)
        again = min(again, idle_at)
    return Decision(Step.NONE, EndReason.TIMEOUT, again)
