"""What cases and groups are worth, and what a submission scored. Pure.

A group holds cases and other groups. Its score is the sum, minimum, maximum or average of theirs; the
same function over what each *could* score gives its maximum.
"""

from collections.abc import Callable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from msgspec import Struct

from sandboxd.judge.verdicts import first_failure
from sandboxd.model.judgement import GroupResult, Verdict
from sandboxd.model.submission import Case, Group

_DEPTH = 16


class ScoringError(ValueError):
    """The groups do not make sense; the text says which one."""


class Outcome(Struct, frozen=True):
    """One case as it was judged. `verdict` None: it was left out."""

    verdict: Verdict | None
    fraction: float


class Total(Struct, frozen=True):
    verdict: Verdict
    score: float
    max_score: float
    groups: list[GroupResult]


class Scheme:
    """The tree of groups over a sequence of cases."""

    def __init__(self, cases: Sequence[Case], groups: Sequence[Group]) -> None:
        """Raises ScoringError: unknown or repeated names, a group within or requiring itself."""
        self.groups = {group.name: group for group in groups}
        if len(self.groups) != len(groups):
            raise ScoringError("two groups have the same name")
        self._check_names(cases)
        self._cases = list(cases)
        self._members: dict[str | None, list[int]] = {}
        for index, case in enumerate(cases):
            self._members.setdefault(case.group, []).append(index)
        self._children: dict[str | None, list[str]] = {}
        for group in groups:
            self._children.setdefault(group.parent, []).append(group.name)
        self._check_shape()
        self.points = [self._worth(case) for case in cases]

    def _check_names(self, cases: Sequence[Case]) -> None:
        for case in cases:
            if case.group is not None and case.group not in self.groups:
                raise ScoringError(f"a case is in group {case.group!r}, which does not exist")
        for group in self.groups.values():
            for name in (*group.requires, *([group.parent] if group.parent else ())):
                if name not in self.groups:
                    raise ScoringError(f"group {group.name!r} names {name!r}, which does not exist")

    def _check_shape(self) -> None:
        """Parents make a tree of bounded depth, and nothing waits for itself."""
        for name in self.groups:
            depth, parent = 0, self.groups[name].parent
            while parent is not None:
                depth, parent = depth + 1, self.groups[parent].parent
                if depth > _DEPTH:
                    raise ScoringError(f"group {name!r} is within itself, or too deep")
        waits = {
            name: {
                inner
                for held in self.ancestors(name)
                for required in self.groups[held].requires
                for inner in self.below(required)
            }
            for name in self.groups
        }
        try:
            TopologicalSorter(waits).prepare()
        except CycleError as error:
            raise ScoringError(f"group {error.args[1][0]!r} requires itself") from None

    def ancestors(self, name: str | None) -> list[str]:
        """The group and all that hold it, from the inside out."""
        found: list[str] = []
        while name is not None:
            found.append(name)
            name = self.groups[name].parent
        return found

    def below(self, name: str) -> list[str]:
        """The group and all that it holds."""
        found = [name]
        for each in found:
            found += self._children.get(each, ())
        return found

    def inside(self, name: str) -> list[int]:
        """Every case below a group, in order."""
        return sorted(x for each in self.below(name) for x in self._members.get(each, ()))

    def _worth(self, case: Case) -> float:
        if case.points is not None:
            return case.points
        group = self.groups.get(case.group or "")
        if group is None or group.points is None:
            return 1.0
        if group.aggregate != "sum":
            return group.points
        given = [self._cases[index].points for index in self._members[group.name]]
        return (group.points - sum(x for x in given if x is not None)) / given.count(None)

    def ignored(self, name: str | None) -> bool:
        return any(self.groups[each].ignored for each in self.ancestors(name))

    def total(self, outcomes: Mapping[int, Outcome]) -> Total:
        """The score of everything; cases without an outcome were left out."""
        counted = [index for index, case in enumerate(self._cases) if not self.ignored(case.group)]
        return Total(
            verdict=first_failure(
                outcomes[index].verdict for index in counted if index in outcomes
            ),
            score=self._score(None, lambda index: _scored(self.points[index], outcomes.get(index))),
            max_score=self._score(None, lambda index: self.points[index]),
            groups=[self._group(name, outcomes) for name in self.groups],
        )

    def _group(self, name: str, outcomes: Mapping[int, Outcome]) -> GroupResult:
        judged = [outcomes[index] for index in self.inside(name) if index in outcomes]
        seen = [outcome.verdict for outcome in judged if outcome.verdict is not None]
        return GroupResult(
            name=name,
            verdict=first_failure(seen) if seen else None,
            score=self._score(name, lambda index: _scored(self.points[index], outcomes.get(index))),
            max_score=self._score(name, lambda index: self.points[index]),
        )

    def _score(self, name: str | None, of_case: Callable[[int], float]) -> float:
        scores = [of_case(index) for index in self._members.get(name, ())]
        scores += [
            self._score(child, of_case)
            for child in self._children.get(name, ())
            if not self.groups[child].ignored
        ]
        return round(_aggregate(self.groups[name].aggregate if name else "sum", scores), 9)


def _scored(points: float, outcome: Outcome | None) -> float:
    return points * outcome.fraction if outcome is not None else 0.0


def _aggregate(how: str, scores: list[float]) -> float:
    if not scores:
        return 0.0
    match how:
        case "min":
            return min(scores)
        case "max":
            return max(scores)
        case "avg":
            return sum(scores) / len(scores)
    return sum(scores)
