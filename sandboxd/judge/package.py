"""The ICPC/Kattis problem package format, legacy and 2023-07, as a JudgeProblem. Pure.

What is read: problem.yaml (name, limits, validation or type), .timelimit and domjudge-problem.ini,
data/ (see `package_groups`), output_validators/ or output_validator/, submissions/ (see
`package_programs`). What is not read changes no verdict: statements, generators, input validators.
"""

import hashlib
import math
import re
from typing import Any

from msgspec import Struct

from sandboxd.judge.archive import PackageError, Tree
from sandboxd.judge.package_groups import read_data
from sandboxd.judge.package_programs import Example, examples, validator
from sandboxd.judge.yaml import mapping
from sandboxd.model.limits import LimitOverrides
from sandboxd.model.problem import JudgeProblem
from sandboxd.model.submission import Checker, Floats, Tokens

_MIB = 1 << 20
_TIME_LIMIT = re.compile(r"^\s*timelimit\s*=\s*['\"]?([0-9.]+)", re.MULTILINE)
_TITLE_MAX = 200


class TimeRule(Struct, frozen=True, kw_only=True):
    """How the format has a time limit chosen where none is given; seconds."""

    to_limit: float
    """Of the slowest accepted submission."""
    to_tle: float
    """A submission that must be too slow is so by this factor."""
    resolution: float

    def limit(self, slowest: float) -> float:
        steps = math.ceil(round(slowest * self.to_limit / self.resolution, 6))
        return max(steps, 1) * self.resolution


class Package(Struct, frozen=True, kw_only=True):
    problem: JudgeProblem
    data: dict[str, bytes]
    """Content by digest."""
    examples: list[Example]
    time_limit: float | None
    """Seconds, if the package says."""
    time_rule: TimeRule


def load(tree: Tree, title: str = "") -> Package:
    """`title` is for a package that has none. Raises PackageError."""
    if "problem.yaml" not in tree:
        raise PackageError("there is no problem.yaml")
    about = mapping(tree["problem.yaml"], "problem.yaml")
    version = str(about.get("problem_format_version", "legacy"))
    if version not in ("legacy", "2023-07", "2023-07-draft"):
        raise PackageError(f"problem.yaml: unknown format {version[:40]!r}")
    modern = version != "legacy"
    kinds = _kinds(about, modern)
    if "multi-pass" in kinds or "submit-answer" in kinds:
        raise PackageError("problem.yaml: multi-pass and submit-answer problems are not supported")
    limits = about.get("limits") or {}
    if not isinstance(limits, dict):
        raise PackageError("problem.yaml: limits is not a mapping")
    contents: dict[str, bytes] = {}

    def digest(data: bytes) -> str:
        name = f"sha256:{hashlib.sha256(data).hexdigest()}"
        contents[name] = data
        return name

    scoring = "scoring" in kinds or "score" in kinds
    found = read_data(tree, modern=modern, scoring=scoring, digest=digest)
    flags = (*str(about.get("validator_flags") or "").split(), *found.root.validator_args)
    own = validator(tree, modern, flags, scoring) if modern or "custom" in kinds else None
    if own is None:
        _check_one_set_of_flags(found.cases)
    interactive = "interactive" in kinds
    if interactive and own is None:
        raise PackageError("an interactive problem needs an output validator")
    time_limit = _time_limit(tree, limits)
    problem = JudgeProblem(
        title=_title(about) or title,
        format="2023-07" if modern else "legacy",
        cases=found.cases,
        checker=own if own is not None and not interactive else default_checker(flags),
        interactor=own if interactive else None,
        groups=found.groups,
        limits=_limits(limits, time_limit),
        compile_limits=_compile_limits(limits),
        stop_on_failure=not scoring,
        size=sum(map(len, contents.values())),
    )
    return Package(
        problem=problem,
        data=contents,
        examples=examples(tree),
        time_limit=time_limit,
        time_rule=_time_rule(limits, modern),
    )


def default_checker(flags: tuple[str, ...]) -> Checker:
    """The format's own validator: words, without regard to case, numbers within tolerances."""
    options = {"case_sensitive": False, "space_sensitive": False}
    tolerances: dict[str, float] = {}
    words = iter(flags)
    for word in words:
        if word in ("case_sensitive", "space_change_sensitive"):
            options[word.replace("space_change", "space")] = True
        elif word in ("float_absolute_tolerance", "float_relative_tolerance", "float_tolerance"):
            value = _positive(next(words, None), f"validator flags: {word}")
            for kind in ("absolute", "relative"):
                if kind in word or word == "float_tolerance":
                    tolerances[kind] = value
        else:
            raise PackageError(f"validator flags: {word[:40]!r} is not known")
    if not tolerances:
        return Tokens(**options)
    return Floats(**{"absolute": 0.0, "relative": 0.0, **tolerances}, **options)  # type: ignore[arg-type]


def _check_one_set_of_flags(cases: list[Any]) -> None:
    if any(case.checker_args for case in cases):
        raise PackageError("other flags of the default validator in a group are not supported")


def _kinds(about: dict[str, Any], modern: bool) -> set[str]:
    """The words of `type`, and in the legacy format of `validation`."""
    given = about.get("type") or ""
    words = [str(word) for word in given] if isinstance(given, list) else str(given).split()
    if not modern:
        words += str(about.get("validation") or "").split()
    return set(words)


def _title(about: dict[str, Any]) -> str:
    name = about.get("name") or ""
    if isinstance(name, dict):
        name = name.get("en") or next(iter(name.values()), "")
    return str(name)[:_TITLE_MAX]


def _time_limit(tree: Tree, limits: dict[str, Any]) -> float | None:
    if limits.get("time_limit") is not None:
        return _positive(limits["time_limit"], "limits.time_limit")
    if ".timelimit" in tree:
        return _positive(tree[".timelimit"][:32].decode("ascii", "replace").strip(), ".timelimit")
    ini = tree.get("domjudge-problem.ini", b"")[:4096].decode(errors="replace")
    match = _TIME_LIMIT.search(ini)
    return _positive(match[1], "domjudge-problem.ini") if match else None


def _limits(limits: dict[str, Any], time_limit: float | None) -> LimitOverrides:
    output = _megabytes(limits, "output")
    return LimitOverrides(
        cpu_time=time_limit,
        wall_time=wall_time(time_limit) if time_limit is not None else None,
        memory=_megabytes(limits, "memory"),
        output=output,
    )


def wall_time(time_limit: float) -> float:
    """Seconds: who waits for its turn on a busy machine is not too slow yet."""
    return max(2 * time_limit, time_limit + 2)


def _compile_limits(limits: dict[str, Any]) -> LimitOverrides:
    time = limits.get("compilation_time")
    seconds = _positive(time, "limits.compilation_time") if time is not None else None
    return LimitOverrides(cpu_time=seconds, memory=_megabytes(limits, "compilation_memory"))


def _time_rule(limits: dict[str, Any], modern: bool) -> TimeRule:
    if not modern:
        return TimeRule(
            to_limit=_positive(limits.get("time_multiplier", 5), "limits.time_multiplier"),
            to_tle=_positive(limits.get("time_safety_margin", 2), "limits.time_safety_margin"),
            resolution=1.0,
        )
    factors = limits.get("time_multipliers") or {}
    if not isinstance(factors, dict):
        raise PackageError("limits.time_multipliers is not a mapping")
    return TimeRule(
        to_limit=_positive(factors.get("ac_to_time_limit", 2.0), "ac_to_time_limit"),
        to_tle=_positive(factors.get("time_limit_to_tle", 1.5), "time_limit_to_tle"),
        resolution=_positive(limits.get("time_resolution", 1.0), "limits.time_resolution"),
    )


def _megabytes(limits: dict[str, Any], name: str) -> int | None:
    if limits.get(name) is None:
        return None
    return round(_positive(limits[name], f"limits.{name}") * _MIB)


def _positive(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number <= 1e6:
        raise PackageError(f"{name}: {str(value)[:40]!r} is not a number above 0")
    return number
