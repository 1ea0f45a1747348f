"""The data of a problem package: cases, and the groups that its directories make. Pure.

Legacy settings are in `testdata.yaml` and inherited; those of 2023-07 in `test_group.yaml`, each for its
own directory. `reject_score`, `always_accept` and `accept_if_any_accepted` have no counterpart here and
are refused where they would change a score.
"""

import shlex
from pathlib import PurePosixPath
from typing import Any

from msgspec import Struct

from sandboxd.judge.archive import PackageError, Tree
from sandboxd.judge.yaml import mapping
from sandboxd.model.submission import Case, CaseData, Group

_INPUT, _ANSWER = ".in", ".ans"
_ROOT = "data"
_AGGREGATES = ("sum", "min", "max", "avg")


class Settings(Struct, frozen=True, kw_only=True):
    """What one directory of data/ says."""

    aggregate: str = "sum"
    points: float | None = None
    """Of each case (legacy), or of the group (2023-07)."""
    stop: bool | None = None
    ignore_sample: bool = False
    requires: tuple[str, ...] = ()
    validator_args: tuple[str, ...] = ()


class TestData(Struct, frozen=True, kw_only=True):
    cases: list[Case]
    groups: list[Group]
    root: Settings


def read_data(tree: Tree, *, modern: bool, scoring: bool, digest: Any) -> TestData:
    """Cases in the order of the format: sample first, then secret, each by name.

    `digest` gives the name of a content. Raises PackageError.
    """
    read = _modern if modern else _legacy
    root = read(tree, _ROOT, Settings())
    cases: list[Case] = []
    kinds: dict[str, Settings] = {}
    for path in sorted(_inputs(tree), key=lambda path: (not path.startswith("data/sample/"), path)):
        settings = root
        for held in _directories(path):
            if held not in kinds:
                kinds[held] = read(tree, held, settings)
            settings = kinds[held]
        cases.append(_case(tree, path, settings, root, scoring, modern, digest))
    groups = [_group(name, kind, root, modern) for name, kind in kinds.items()] if scoring else []
    return TestData(cases=cases, groups=groups, root=root)


def _inputs(tree: Tree) -> list[str]:
    found = [path for path in tree if path.startswith(("data/sample/", "data/secret/"))]
    return [path for path in found if path.endswith(_INPUT)]


def _directories(path: str) -> list[str]:
    """`data/secret/a/1.in` -> `data/secret`, `data/secret/a`."""
    parents = [str(parent) for parent in PurePosixPath(path).parents]
    return [parent for parent in reversed(parents) if parent.startswith("data/")]


def _case(
    tree: Tree, path: str, settings: Settings, root: Settings, scoring: bool, modern: bool,
    digest: Any,
) -> Case:  # fmt: skip
    stem = path.removesuffix(_INPUT)
    if stem + _ANSWER not in tree:
        raise PackageError(f"{path}: there is no {stem + _ANSWER}")
    own = mapping(tree[stem + ".yaml"], stem + ".yaml") if stem + ".yaml" in tree else {}
    extra = settings.validator_args if settings.validator_args != root.validator_args else ()
    args = _words(own.get("output_validator_args"), stem) if modern else ()
    return Case(
        name=stem.removeprefix("data/"),
        input=CaseData(digest=digest(tree[path])),
        answer=CaseData(digest=digest(tree[stem + _ANSWER])),
        group=str(PurePosixPath(path).parent).removeprefix("data/") if scoring else None,
        points=settings.points if scoring and not modern else None,
        args=list(_words(own.get("args"), stem)) if modern else [],
        checker_args=list(args or extra),
    )


def _group(directory: str, kind: Settings, root: Settings, modern: bool) -> Group:
    name = directory.removeprefix("data/")
    parent, _, _ = name.rpartition("/")
    return Group(
        name=name,
        parent=parent or None,
        aggregate=kind.aggregate,  # type: ignore[arg-type]
        points=kind.points if modern else None,
        stop=kind.stop,
        requires=list(kind.requires),
        ignored=name == "sample" and (modern or root.ignore_sample),
    )


def _legacy(tree: Tree, directory: str, inherited: Settings) -> Settings:
    name = f"{directory}/testdata.yaml"
    if name not in tree:
        return inherited
    given = mapping(tree[name], name)
    flags = str(given.get("grader_flags", "")).split()
    if {"always_accept", "accept_if_any_accepted"} & {*flags} or given.get("grading") == "custom":
        raise PackageError(f"{name}: this way of grading is not supported")
    if _number(given.get("reject_score", 0), name) != 0:
        raise PackageError(f"{name}: reject_score other than 0 is not supported")
    chosen = [flag for flag in flags if flag in _AGGREGATES]
    points = inherited.points
    if "accept_score" in given:
        points = _number(given["accept_score"], name)
    args = inherited.validator_args
    if "output_validator_flags" in given:
        args = _words(given["output_validator_flags"], name)
    stop = inherited.stop if inherited.stop is not None else True
    if "on_reject" in given:
        stop = given["on_reject"] == "break"
    return Settings(
        aggregate=chosen[-1] if chosen else inherited.aggregate,
        points=points,
        stop=stop,
        ignore_sample="ignore_sample" in flags,
        validator_args=args,
    )


def _modern(tree: Tree, directory: str, inherited: Settings) -> Settings:
    """Only what validators are called with is inherited."""
    name = f"{directory}/test_group.yaml"
    if name not in tree:
        return Settings(validator_args=inherited.validator_args)
    given = mapping(tree[name], name)
    scoring = given.get("scoring") or {}
    if not isinstance(scoring, dict):
        raise PackageError(f"{name}: scoring is not a mapping")
    points = scoring.get("score", given.get("max_score"))
    how = scoring.get("aggregation", given.get("score_aggregation"))
    if how not in (None, "sum", "min", "pass-fail"):
        raise PackageError(f"{name}: unknown aggregation {str(how)[:40]!r}")
    requires = scoring.get("require_pass", given.get("require_pass")) or []
    args = inherited.validator_args
    if "output_validator_args" in given:
        args = _words(given["output_validator_args"], name)
    holds_cases = any(
        path.endswith(_INPUT) and str(PurePosixPath(path).parent) == directory for path in tree
    )
    default = "min" if holds_cases and directory != "data/secret" else "sum"
    return Settings(
        aggregate="min" if how == "pass-fail" else str(how or default),
        points=_number(points, name) if points not in (None, "unbounded") else None,
        requires=tuple(map(str, [requires] if isinstance(requires, str) else requires)),
        validator_args=args,
    )


def _words(value: Any, name: str) -> tuple[str, ...]:
    try:
        if value is None:
            return ()
        return tuple(map(str, value)) if isinstance(value, list) else tuple(shlex.split(str(value)))
    except ValueError as error:
        raise PackageError(f"{name}: arguments: {error}") from None


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e9:
        raise PackageError(f"{name}: {str(value)[:40]!r} is not a number of points")
    return float(value)
