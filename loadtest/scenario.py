"""Scenarios: a mix of jobs at a constant rate, described in TOML: runs, submissions to be judged,
sandboxes that live for some commands, readers that are slow."""

import random
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from loadtest.job import Expectation, Job, Pick, job
from loadtest.longer import Session, Sitting, submission
from loadtest.openloop import OpenLoad
from loadtest.peers.http import job_of
from loadtest.workload import Workload

Positive = Annotated[float, Meta(gt=0)]
_CYCLE = 4096
"""Jobs drawn before the sequence repeats."""


class ScenarioError(Exception):
    """The file does not describe a scenario; the text says where."""


class ScenarioJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of job: one of the bench's workloads, or something of your own."""

    name: Annotated[str, Meta(min_length=1)]
    weight: Annotated[int, Meta(ge=1)] = 1
    """Share among the scenario's jobs."""
    workload: Literal["compiled", "python"] | None = None
    request: dict[str, Any] | None = None
    """Body of `POST /v1/runs`."""
    submission: dict[str, Any] | None = None
    """Body of `POST /v1/submissions`."""
    session: Session | None = None
    """A sandbox from its creation to its removal, with commands between."""
    expect: Expectation = Expectation()
    """Of `request` and `submission`; the others know their own."""
    read_pause: Annotated[float, Meta(ge=0, le=10)] = 0.0
    """Of `request`: seconds that the reader rests after each few KiB of the answer."""

    def __post_init__(self) -> None:
        given = [self.workload, self.request, self.submission, self.session]
        if sum(one is not None for one in given) != 1:
            raise ValueError("give exactly one of workload, request, submission and session")
        if (self.workload or self.session) and self.expect != Expectation():
            raise ValueError("a workload and a session have their own expect")
        if self.request is None and self.read_pause:
            raise ValueError("read_pause belongs to a request")


class Scenario(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}\Z")]
    about: str = ""
    rate: Annotated[float, Meta(gt=0, le=100_000)]
    """Jobs per second."""
    seconds: Annotated[float, Meta(gt=0, le=86_400)]
    warm_up: Annotated[float, Meta(ge=0, le=3_600)] = 2.0
    """Seconds at the same rate before, not measured."""
    burst: Annotated[int, Meta(ge=1, le=4_096)] = 1
    """Jobs that start at the same moment, at the same rate over all."""
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
            burst=self.burst,
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
        return msgspec.structs.replace(job_of(workloads[kind.workload]), name=kind.name)
    if kind.submission is not None:
        return submission(kind.name, kind.submission, kind.expect)
    if kind.session is not None:
        return Sitting(name=kind.name, session=kind.session)
    return job(kind.name, kind.request or {}, kind.expect, kind.read_pause)
