"""Admission of several commands that run together, joined by pipes. Pure."""

from collections.abc import Sequence

from msgspec.structs import replace

from sandboxd.errors import InvalidRequest
from sandboxd.gateway.admission import admit
from sandboxd.model import Job, RunRequest
from sandboxd.model.parts import Part, Pipe, Together
from sandboxd.policy import Policies


def admit_together(
    requests: Sequence[RunRequest],
    pipes: list[Pipe],
    policies: Policies,
    *,
    room: Sequence[tuple[int, int]],
    tenant: str,
    run_id: str,
    created_at: str,
    reply_to: str | None = None,
) -> Job:
    """One job of `requests`, each a command of the same template; it holds what all of them need.

    `room` is what each node can hold, see `Offers.room`. Raises InvalidRequest.
    """
    _check(len(requests), pipes)
    jobs = [
        admit(
            request, policies,
            tenant=tenant, run_id=run_id, created_at=created_at, reply_to=reply_to,
        )
        for request in requests
    ]  # fmt: skip
    cpu, memory = sum(job.reserve_cpu for job in jobs), sum(job.reserve_memory for job in jobs)
    # What no node can hold would wait for ever, and hold up what is behind it.
    if room and not any(cpu <= has_cpu and memory <= has_memory for has_cpu, has_memory in room):
        raise InvalidRequest("no node has room for all of the commands at once", field="cmd")
    parts = [Part(request=job.request, limits=job.limits) for job in jobs]
    return replace(
        jobs[0],
        together=Together(parts=parts, pipes=pipes),
        reserve_cpu=cpu,
        reserve_memory=memory,
    )


def _check(parts: int, pipes: Sequence[Pipe]) -> None:
    if any(each.writer >= parts or each.reader >= parts for each in pipes):
        raise InvalidRequest("a pipe names a command that is not there", field="pipeMapping")
    for ends in ([each.writer for each in pipes], [each.reader for each in pipes]):
        if len(set(ends)) < len(ends):
            raise InvalidRequest("a stream is in two pipes", field="pipeMapping")
