"""One submission on this node: compile once, run its cases several at once, judge each."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from sandboxd.drivers.exec.base import Built
from sandboxd.errors import DriverFault
from sandboxd.judge.board import Board
from sandboxd.judge.scoring import ScoringError
from sandboxd.model import Job, Judgement, Language, Limits, Outcome, Result, Status, Verdict
from sandboxd.model.judgement import CaseResult
from sandboxd.model.submission import Program
from sandboxd.node.judging.case import CaseRun, Ready, Tool
from sandboxd.node.judging.compiled import Compiled
from sandboxd.node.judging.compiling import Compiler, Source
from sandboxd.node.judging.cores import Cores
from sandboxd.node.judging.data import Data
from sandboxd.node.judging.program import Workplace
from sandboxd.node.live import Live
from sandboxd.node.pool import Pool
from sandboxd.node.warmth import shelves
from sandboxd.policy import Policies

Tell = Callable[[str, bytes], None]
_OUTPUTS_MAX = 16 << 20
"""Characters of all outputs that one result carries."""
_SAID = 2_000
"""Characters of a checker's compiler that a message shows."""
_encode = msgspec.json.encode


class Judging:
    def __init__(
        self,
        job: Job,
        policies: Policies,
        pool: Pool,
        compiler: Compiler,
        data: Data,
        cores: Cores,
        *,
        node: str,
        tell: Tell,
    ) -> None:
        """`tell` is told the news as they come. Raises DriverFault if a language is not known here."""
        assert job.submission is not None
        self._job, self._submission = job, job.submission
        self._policies, self._pool = policies, pool
        self._compiler, self._data, self._cores = compiler, data, cores
        self._node, self._tell = node, tell
        self._language = self._known(job.request.language or "")
        self._case_shelves = shelves(job, self._language, policies)
        compiles = self._language.compile is not None
        self.shelves = (job.template,) if compiles else self._case_shelves
        """Where in the pool the job's first sandbox may come from, the best first."""
        self.live = Live(interactive=False)
        self._place: Workplace | None = None
        self._cancelled = False
        self._layers: frozenset[str] = frozenset()
        self._started_at = _now()
        self._outputs_left = _OUTPUTS_MAX
        for program in (self._submission.checker, self._submission.interactor):
            if isinstance(program, Program):
                self._known(program.language)

    def _known(self, name: str) -> Language:
        language = self._policies.language(name)
        if language is None:
            raise DriverFault("policies", "find the language", name)
        return language

    def cancel(self) -> None:
        """End whatever runs now; the result says `cancelled`."""
        self._cancelled = True
        if self._place is not None:
            self._place.stop()

    async def run(self, first: Built) -> Result:
        """The job's result. Uses up `first`, a sandbox of the job's template, or gives it back.

        Raises SystemFault or Overload if the host failed; then nothing of the job is left running.
        """
        self._layers = frozenset(first.layers)
        self._place = Workplace(self._pool, first)
        if self._cancelled:
            self._place.stop()
        try:
            return await self._judge(self._place)
        finally:
            self._place.close()

    async def _judge(self, place: Workplace) -> Result:
        request = self._job.request
        compiled = await self._compiler.compile(
            place, self._job.tenant, self._language, self._job.compile_limits,
            Source(source=request.source, files=request.files, compile_args=request.compile_args),
        )  # fmt: skip
        if compiled.outcome is not None:
            self._tell("compiled", _encode({"status": compiled.outcome.status}))
        if not compiled.ok:
            assert compiled.outcome is not None
            return self._not_compiled(compiled.outcome)
        submission = self._submission
        try:
            checker = await self._tool(
                place, submission.checker, submission.checker_limits,
                submission.checker_compile_limits,
            )  # fmt: skip
            interactor = await self._tool(
                place, submission.interactor, submission.interactor_limits,
                submission.interactor_compile_limits,
            )  # fmt: skip
        except _ToolFailed as failed:
            return self._end(self._failed(str(failed)), compiled)
        ready = Ready(
            job=self._job,
            submission=submission,
            language=self._language,
            shelves=self._case_shelves,
            compiled=compiled,
            checker=checker,
            interactor=interactor,
            cores=self._cores,
        )
        return self._end(await self._cases(place, ready), compiled)

    async def _tool(
        self,
        place: Workplace,
        program: object,
        limits: Limits | None,
        compile_limits: Limits | None,
    ) -> Tool | None:
        if not isinstance(program, Program) or limits is None:
            return None
        language = self._known(program.language)
        source = Source(
            source=program.source, files=program.files, compile_args=program.compile_args
        )
        compiled = await self._compiler.compile(
            place, self._job.tenant, language, compile_limits, source
        )
        if not compiled.ok:
            assert compiled.outcome is not None
            said = compiled.outcome.stderr or compiled.outcome.stdout
            raise _ToolFailed(f"a judging program does not compile: {said[:_SAID]}")
        return Tool(program=program, language=language, limits=limits, compiled=compiled)

    async def _cases(self, place: Workplace, ready: Ready) -> Judgement:
        submission = self._submission
        try:
            board = Board(
                submission.cases, submission.groups, stop_on_failure=submission.stop_on_failure
            )
        except ScoringError as error:
            return self._failed(str(error))
        results: dict[int, CaseResult] = {}
        running: dict[asyncio.Task[CaseResult], tuple[int, CaseRun]] = {}
        try:
            while True:
                while (
                    not self._cancelled
                    and len(running) < submission.parallel
                    and (index := board.next()) is not None
                ):
                    board.start(index)
                    run = CaseRun(
                        ready, place.part(), self._data, submission.cases[index], self._name(index)
                    )
                    task = asyncio.create_task(run.run(board.points[index]))
                    running[task] = index, run
                if not running:
                    break
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    index, _ = running.pop(task)
                    self._record(board, index, task.result(), results, running)
        finally:
            await self._abandon(running)
        return self._judgement(board, results)

    def _record(
        self,
        board: Board,
        index: int,
        result: CaseResult,
        results: dict[int, CaseResult],
        running: dict[asyncio.Task[CaseResult], tuple[int, CaseRun]],
    ) -> None:
        assert result.verdict is not None
        results[index] = self._within_budget(result)
        needless = board.record(index, result.verdict, result.score)
        for other, run in running.values():
            if other in needless:
                run.stop()
        if not self._cancelled:
            self._tell("case", _encode({"case": index, **_news(result)}))

    def _within_budget(self, result: CaseResult) -> CaseResult:
        """Without its outputs, once those of the cases before it are too much for one answer."""
        said = sum(len(line.data) for line in result.transcript or ())
        size = len(result.stdout or "") + len(result.stderr or "") + said
        self._outputs_left -= size
        if size == 0 or self._outputs_left >= 0:
            return result
        return replace(result, stdout=None, stderr=None, transcript=None)

    async def _abandon(self, running: dict[asyncio.Task[CaseResult], tuple[int, CaseRun]]) -> None:
        """After a failure of the host: the other cases end too, and their failures are one's own."""
        for _, run in running.values():
            run.stop()
        if running:
            await asyncio.gather(*running, return_exceptions=True)

    def _judgement(self, board: Board, results: dict[int, CaseResult]) -> Judgement:
        shown = set(board.shown())
        total = board.total()
        cases = [
            results[index]
            if index in shown
            else CaseResult(name=self._name(index), group=case.group)
            for index, case in enumerate(self._submission.cases)
        ]
        return Judgement(
            verdict=total.verdict,
            score=total.score,
            max_score=total.max_score,
            cases=cases,
            groups=total.groups,
        )

    def _name(self, index: int) -> str:
        return self._submission.cases[index].name or str(index + 1)

    def _failed(self, message: str) -> Judgement:
        return Judgement(
            verdict=Verdict.INTERNAL_ERROR, score=0.0, max_score=0.0, cases=[], message=message
        )

    def _not_compiled(self, outcome: Outcome) -> Result:
        if outcome.status is Status.CANCELLED:
            return self._result(Status.CANCELLED, compile=outcome)
        if outcome.status is Status.INTERNAL_ERROR:
            return self._result(
                Status.INTERNAL_ERROR, compile=outcome, reason="the compiler was lost"
            )
        nothing = Judgement(verdict=Verdict.COMPILE_ERROR, score=0.0, max_score=0.0, cases=[])
        return self._result(Status.OK, compile=outcome, judgement=nothing)

    def _end(self, judgement: Judgement, compiled: Compiled) -> Result:
        if self._cancelled:
            return self._result(Status.CANCELLED, compile=compiled.outcome)
        return self._result(Status.OK, compile=compiled.outcome, judgement=judgement)

    def _result(self, status: Status, **fields: object) -> Result:
        return Result(
            id=self._job.id,
            status=status,
            isolation=sorted(self._layers),
            language=self._job.request.language,
            node=self._node,
            created_at=self._job.created_at,
            started_at=self._started_at,
            finished_at=_now(),
            **fields,  # type: ignore[arg-type]
        )


class _ToolFailed(Exception):
    """The checker or the interactor does not compile."""


def _news(result: CaseResult) -> dict[str, object]:
    """What an event says of a case: everything but its texts."""
    names = "name", "group", "verdict", "score", "status", "cpu_time", "wall_time", "peak_memory"
    return {name: getattr(result, name) for name in names}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
