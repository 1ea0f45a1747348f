"""Which case comes next, and when a submission is judged. A pure state machine, driven by the node.

Cases run several at once, yet what is reported does not depend on how they interleave: a failure that
stops the rest is the first one *in order*, and what ran ahead of it is left out again.
"""

from collections import Counter
from collections.abc import Sequence

from sandboxd.judge.scoring import Outcome, Scheme, Total
from sandboxd.model.judgement import Verdict
from sandboxd.model.submission import Case, Group

_ALL = ""
"""Stands for the submission among the names of groups, of which none is empty."""


class Board:
    def __init__(
        self, cases: Sequence[Case], groups: Sequence[Group], *, stop_on_failure: bool
    ) -> None:
        """Raises ScoringError."""
        self._scheme = Scheme(cases, groups)
        self._holders = [self._scheme.ancestors(case.group) for case in cases]
        self._stops = {name for name, group in self._scheme.groups.items() if _stops(group)}
        if stop_on_failure:
            self._stops.add(_ALL)
        self._outcomes: dict[int, Outcome] = {}
        self._running: set[int] = set()
        self._waiting = list(range(len(cases)))
        self._pending = Counter(name for names in self._holders for name in names)
        self._first_failed: dict[str, int] = {}
        self._incomplete: set[str] = set()

    @property
    def points(self) -> list[float]:
        """What each case is worth."""
        return self._scheme.points

    @property
    def over(self) -> bool:
        """Nothing runs and nothing is left to run."""
        return not self._running and self.next() is None

    def next(self) -> int | None:
        """The case to start now; None: there is none, or each depends on one that still runs."""
        position = 0
        while position < len(self._waiting):
            index = self._waiting[position]
            if self._left_out(index):
                self._waiting.pop(position)
                self._settle(index)
                self._incomplete.update(self._holders[index])
                position = 0  # a group may be decided now that an earlier case waits for
            elif self._undecided(index):
                position += 1
            else:
                return index
        return None

    def start(self, index: int) -> None:
        self._waiting.remove(index)
        self._running.add(index)

    def record(self, index: int, verdict: Verdict, fraction: float) -> set[int]:
        """A case has ended. Running cases that need not go on; they are recorded like any other."""
        self._running.discard(index)
        self._outcomes[index] = Outcome(verdict, fraction)
        self._settle(index)
        if verdict is Verdict.ACCEPTED:
            return set()
        for name in (*self._holders[index], *([] if self._ignored(index) else [_ALL])):
            self._first_failed[name] = min(index, self._first_failed.get(name, index))
        return {other for other in self._running if self._left_out(other)}

    def shown(self) -> list[int]:
        """Cases with an outcome that counts, in order. Call it when `over`."""
        return [index for index in sorted(self._outcomes) if not self._left_out(index)]

    def total(self) -> Total:
        return self._scheme.total({index: self._outcomes[index] for index in self.shown()})

    def _settle(self, index: int) -> None:
        self._pending.subtract(self._holders[index])

    def _ignored(self, index: int) -> bool:
        return any(self._scheme.groups[name].ignored for name in self._holders[index])

    def _left_out(self, index: int) -> bool:
        """By a failure before it in order, or by a group that was required and not accepted."""
        names = self._holders[index] if self._ignored(index) else [*self._holders[index], _ALL]
        return any(
            name in self._stops and self._first_failed.get(name, index) < index for name in names
        ) or any(self._failed(required) for required in self._required(index))

    def _required(self, index: int) -> list[str]:
        return [
            name for held in self._holders[index] for name in self._scheme.groups[held].requires
        ]

    def _failed(self, name: str) -> bool:
        """Certainly not accepted in whole: a case of it failed, or was left out."""
        return name in self._first_failed or name in self._incomplete

    def _undecided(self, index: int) -> bool:
        """It requires a group that still runs or waits."""
        return any(self._pending[required] > 0 for required in self._required(index))


def _stops(group: Group) -> bool:
    return group.stop if group.stop is not None else group.aggregate == "min"
