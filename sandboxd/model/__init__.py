"""The vocabulary: plain typed data, no I/O."""

from sandboxd.model.job import Command, Job, Lease
from sandboxd.model.judgement import Judgement, Verdict
from sandboxd.model.language import Compile, Language, SelfTest, Template, Warm, argv
from sandboxd.model.limits import LimitOverrides, Limits, above_maximum, merge
from sandboxd.model.node import NodeRecord
from sandboxd.model.run import (
    FileContent,
    Outcome,
    PartOutcome,
    Result,
    RunRecord,
    RunRequest,
    RunState,
)
from sandboxd.model.status import Status
from sandboxd.model.submission import Submission

__all__ = [
    "Command",
    "Compile",
    "FileContent",
    "Job",
    "Judgement",
    "Language",
    "Lease",
    "LimitOverrides",
    "Limits",
    "NodeRecord",
    "Outcome",
    "PartOutcome",
    "Result",
    "RunRecord",
    "RunRequest",
    "RunState",
    "SelfTest",
    "Status",
    "Submission",
    "Template",
    "Verdict",
    "Warm",
    "above_maximum",
    "argv",
    "merge",
]
