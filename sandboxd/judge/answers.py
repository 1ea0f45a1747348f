"""The result of a submission's job, as its client sees it. Pure."""

import msgspec

from sandboxd.model import Result, Status, Verdict
from sandboxd.model.judged import SubmissionResult


def judged(result: Result) -> SubmissionResult:
    """The result of a submission's job, as its client sees it."""
    fields = {
        name: getattr(result, name)
        for name in (
            "id", "compile", "isolation", "language", "node", "reason",
            "created_at", "started_at", "finished_at",
        )
    }  # fmt: skip
    judgement = result.judgement
    if isinstance(judgement, msgspec.UnsetType):
        if result.status is Status.CANCELLED:
            return SubmissionResult(status="cancelled", **fields)
        return SubmissionResult(status="internal_error", verdict=Verdict.INTERNAL_ERROR, **fields)
    cases = judgement.cases
    return SubmissionResult(
        status="judged",
        verdict=judgement.verdict,
        score=judgement.score,
        max_score=judgement.max_score,
        cases=cases,
        groups=judgement.groups,
        message=judgement.message,
        cpu_time=max((case.cpu_time for case in cases), default=0.0),
        wall_time=max((case.wall_time for case in cases), default=0.0),
        peak_memory=max((case.peak_memory for case in cases), default=0),
        **fields,
    )
