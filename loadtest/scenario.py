"""Scenarios: a mix of one-shot jobs at a constant rate, described in TOML."""

import random
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from loadtest.job import Expectation, Job, Pick, job
from loadtest.openloop import OpenLoad
from loadtest.peers.http import job_of
from loadtest.workload import Workload

Positive = Annotated[float, Meta(gt=0)]
_CYCLE = 4096
"""Jobs drawn before the sequence repeats."""


class ScenarioError(Exception):
    """The file does not describe a scenario; the text says where."""


class ScenarioJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of job: one of the bench's workloads, or a request of your own."""

    name: Annotated[str, Meta(min_length=1)]
    weight: Annotated[int, Meta(ge=1)] = 1
    """Share among the scenario's jobs."""
    workload: Literal["compiled", "python"] | None = None
    request: dict[str, Any] | None = None
    """Body of `POST /v1/runs`."""
    expect: Expectation = Expectation()
    """Of `request`; a workload knows its own."""

    def __post_init__(self) -> None:
        if (self.workload is None) == (self.request is None):
            raise ValueError("give exactly one of workload and request")
        if self.workload is not None and self.expect != Expectation():
            raise ValueError("a workload has its own expect")


class Scenario(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}\Z")]
    about: str = ""
    rate: Annotated[float, Meta(gt=0, le=100_000)]
    """Jobs per second."""
    seconds: Annotated[float, Meta(gt=0, le=86_400)]
    warm_up: Annotated[float, Meta(ge=0, le=3_600)] = 2.0
    """Seconds at the same rate before, not measured."""
    max_in_flight: Annotated[int, Meta(ge=1, le=4_096)] = 64
    timeout: Positive = 10.0
    """Seconds for one answer, and after the last start for all."""
    seed: int = 1
    """Of the order of the jobs: the same scenario sends the same sequence."""
    jobs: Annotated[list[ScenarioJob], Meta(min_length=1)]

    def __post_init__(self) -> None:
        names = [job.name for job in self.jobs]
        if len(set(names)) < len(names):
            raise ValueError("two jobs have the same name")

    def load(self, seconds: float) -> OpenLoad:
        return OpenLoad(
            rate=self.rate,
            seconds=seconds,
            max_in_flight=self.max_in_flight,
            grace=self.timeout,
        )


def read(path: Path) -> Scenario:
    """Raises ScenarioError."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), Scenario)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ScenarioError(f"{path.name}: {error}") from error


def sequence(scenario: Scenario, workloads: dict[str, Workload]) -> Pick:
    """The scenario's jobs in their seeded order, by number."""
    kinds = [_job(kind, workloads) for kind in scenario.jobs]
    weights = [kind.weight for kind in scenario.jobs]
    drawn = random.Random(scenario.seed).choices(kinds, weights, k=_CYCLE)
    return lambda index: drawn[index % _CYCLE]


def _job(kind: ScenarioJob, workloads: dict[str, Workload]) -> Job:
    if kind.workload is not None:
        known = job_of(workloads[kind.workload])
        return Job(name=kind.name, body=known.body, expect=known.expect)
    return job(kind.name, kind.request or {}, kind.expect)
