"""Several commands of one job, each in a sandbox of its own, joined by pipes."""

import asyncio
from datetime import UTC, datetime

from msgspec.structs import asdict

from sandboxd.drivers.exec.base import Built
from sandboxd.model import FileContent, Job, PartOutcome, Result, Status
from sandboxd.model.parts import Part, Pipe, Together
from sandboxd.node import job_environment
from sandboxd.node.judging.program import FILE_MODE, Ran, Workplace
from sandboxd.node.judging.relay import drained_pipe, pipe
from sandboxd.node.live import Live
from sandboxd.node.pool import Pool
from sandboxd.node.results import collected
from sandboxd.node.stdio import LiveInput, PassedInput, PassedOutput


class Seen:
    """What went through a pipe, `room` bytes of it."""

    def __init__(self, room: int) -> None:
        self._room = room
        self.data = bytearray()

    def note(self, piece: bytes) -> None:
        self.data += piece[: self._room - len(self.data)]


class Parts:
    def __init__(self, job: Job, pool: Pool, *, node: str, collect_max: int) -> None:
        assert job.together is not None
        self._job, self._together = job, job.together
        self._pool, self._node, self._collect_max = pool, node, collect_max
        self.shelves = (job.template,)
        """Where in the pool the job's sandboxes come from."""
        self.live = Live(interactive=False)
        self._place: Workplace | None = None
        self._cancelled = False
        self._started_at = _now()

    def cancel(self) -> None:
        """End whatever runs now; the result says `cancelled`."""
        self._cancelled = True
        if self._place is not None:
            self._place.stop()

    async def run(self, first: Built) -> Result:
        """The job's result. Uses up `first`, a sandbox of the job's template, or gives it back.

        Raises SystemFault or Overload if the host failed; then nothing of the job is left running.
        """
        self._place = Workplace(self._pool, first)
        if self._cancelled:
            self._place.stop()
        try:
            parts = await self._all(self._place, self._together)
        finally:
            self._place.close()
        return Result(
            id=self._job.id,
            status=Status.CANCELLED if self._cancelled else Status.OK,
            parts=parts,
            isolation=sorted(first.layers),
            node=self._node,
            created_at=self._job.created_at,
            started_at=self._started_at,
            finished_at=_now(),
        )

    async def _all(self, place: Workplace, together: Together) -> list[PartOutcome]:
        seen = [Seen(each.room) for each in together.pipes]
        inputs: dict[int, PassedInput | LiveInput] = {}
        outputs: dict[int, PassedOutput] = {}
        async with asyncio.TaskGroup() as copying:
            for each, saw in zip(together.pipes, seen, strict=True):
                inputs[each.reader], outputs[each.writer] = (
                    drained_pipe(copying, saw.note) if each.drained else pipe(copying)
                )
            tasks = [
                asyncio.create_task(self._one(place, part, inputs.get(index), outputs.get(index)))
                for index, part in enumerate(together.parts)
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                # None is left to run, not even where the host failed one of them. All have ended
                # already where it did not.
                if not all(task.done() for task in tasks):
                    place.stop()
                    await asyncio.wait(tasks)
        return [
            _outcome(task.result(), _through(index, together.pipes, seen))
            for index, task in enumerate(tasks)
        ]

    async def _one(
        self,
        place: Workplace,
        part: Part,
        stdin: PassedInput | LiveInput | None,
        stdout: PassedOutput | None,
    ) -> Ran:
        request, limits = part.request, part.limits
        files = [(path, FILE_MODE, content.data()) for path, content in request.files.items()]
        given = request.stdin
        data = given.data() if isinstance(given, FileContent) else given.encode()
        found = {} if self._job.exact_env else job_environment.BASE_ENV
        order = job_environment.order(
            [*(request.command or ()), *request.args],
            {**found, **request.env}, files, limits,
        )  # fmt: skip
        return await place.run(
            self.shelves, order, limits, stdin if stdin is not None else data,
            stdout=stdout, collect=request.collect, budget=self._collect_max,
        )  # fmt: skip


def _through(writer: int, pipes: list[Pipe], seen: list[Seen]) -> dict[str, bytes]:
    """What went through the pipes of that part, by the names of those that have one."""
    return {
        each.name: bytes(saw.data)
        for each, saw in zip(pipes, seen, strict=True)
        if each.name and each.writer == writer
    }


def _outcome(ran: Ran, through: dict[str, bytes]) -> PartOutcome:
    found, errors = collected(ran.files)
    found |= {name: FileContent.of(data) for name, data in through.items()}
    verdict = ran.verdict
    return PartOutcome(
        **asdict(ran.outcome()),
        files=found,
        file_errors=errors,
        reason=verdict.reason if verdict.exit_code is None else None,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
