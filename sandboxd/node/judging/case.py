"""One case: run the program on it, or let it talk to its interactor, and have the end judged."""

import asyncio

from msgspec import Struct
from msgspec.structs import replace

from sandboxd.judge import conventions
from sandboxd.judge.checkers import Checked, check
from sandboxd.judge.verdicts import of_interaction, of_status
from sandboxd.model import Job, Language, Limits, Submission, Verdict
from sandboxd.model.judgement import CaseResult, Usage
from sandboxd.model.submission import Case, Program
from sandboxd.native import ExecOrder
from sandboxd.node.judging.compiled import Compiled
from sandboxd.node.judging.cores import Cores
from sandboxd.node.judging.data import Data, DataGone
from sandboxd.node.judging.interaction import Interacted, Side, Transcript, interact
from sandboxd.node.judging.program import FILE_MODE, Ran, Workplace, command, order
from sandboxd.node.results import texts

_FEEDBACK_MAX = 1 << 20
_ROOM = 16 << 20
"""Bytes of disk that a judging program has besides the files that it is given."""
_QUICK = 1 << 18
"""Bytes that are compared on the spot; more is compared in a thread."""


class Tool(Struct, frozen=True, kw_only=True):
    """A judging program that is ready to run."""

    program: Program
    language: Language
    limits: Limits
    compiled: Compiled


class Ready(Struct, frozen=True, kw_only=True):
    """Everything that is the same for all cases of a submission."""

    job: Job
    submission: Submission
    language: Language
    shelves: tuple[str, ...]
    compiled: Compiled
    checker: Tool | None
    interactor: Tool | None
    cores: Cores


class CaseRun:
    def __init__(self, ready: Ready, place: Workplace, data: Data, case: Case, name: str) -> None:
        self._ready, self._place, self._data = ready, place, data
        self._case, self._name = case, name

    def stop(self) -> None:
        """Nobody needs the result any more."""
        self._place.stop()

    async def run(self, points: float) -> CaseResult:
        """Raises SystemFault or Overload if the host failed."""
        tenant = self._ready.job.tenant
        try:
            stdin = await self._data.get(tenant, self._case.input)
            answer = await self._data.get(tenant, self._case.answer)
        except DataGone as gone:
            return self._result(Checked(Verdict.INTERNAL_ERROR, 0.0, str(gone)))
        if self._ready.interactor is not None:
            return await self._interactive(self._ready.interactor, stdin, answer, points)
        async with self._ready.cores.one() as core:
            ran = await self._place.run(
                self._ready.shelves, self._order(), self._ready.job.limits, stdin, core=core
            )
        own = of_status(ran.verdict.status)
        if own is not None:
            return self._result(Checked(own, 0.0, ran.verdict.reason or ""), ran)
        return self._result(await self._check(stdin, ran.stdout, answer, points), ran)

    def _order(self) -> ExecOrder:
        ready = self._ready
        request, limits = ready.job.request, ready.job.limits
        argv = command(ready.language, limits, [*request.args, *self._case.args])
        env = {**ready.language.env, **request.env}
        return order(argv, env, ready.compiled.files, limits)

    async def _check(self, stdin: bytes, output: bytes, answer: bytes, points: float) -> Checked:
        checker = self._ready.submission.checker
        if self._ready.checker is None:
            assert not isinstance(checker, Program)
            expected = answer if self._case.answer is not None else None
            if len(output) + len(answer) < _QUICK:
                return check(checker, output, expected)
            return await asyncio.to_thread(check, checker, output, expected)
        tool = self._ready.checker
        call = conventions.call_checker(
            tool.program, stdin, output, answer, self._case.checker_args
        )
        ran = await self._place.run(
            (tool.language.template,), *_tool_order(tool, call), call.stdin,
            collect=call.collect, budget=_FEEDBACK_MAX,
        )  # fmt: skip
        return conventions.read(tool.program, _reply(ran), points)

    async def _interactive(
        self, tool: Tool, stdin: bytes, answer: bytes, points: float
    ) -> CaseResult:
        submission = self._ready.submission
        call = conventions.call_interactor(tool.program, stdin, answer, self._case.checker_args)
        tool_order, tool_limits = _tool_order(tool, call)
        transcript = Transcript(submission.outputs_max) if submission.transcript else None
        interactor = Side(
            shelves=(tool.language.template,), order=tool_order, limits=tool_limits,
            collect=call.collect, budget=max(_FEEDBACK_MAX, submission.checker_limits.output),
        )  # fmt: skip

        def accepts(ran: Ran) -> bool:
            found = conventions.read(tool.program, _reply(ran), points)
            return found.verdict is Verdict.ACCEPTED

        async with self._ready.cores.one() as core:
            program = Side(
                shelves=self._ready.shelves,
                order=self._order(),
                limits=self._ready.job.limits,
                core=core,
            )
            done = await interact(self._place, program, interactor, accepts, transcript)
        found = conventions.read(tool.program, _reply(done.interactor), points)
        # Whose end was noted first says nothing here: nobody listened, so the program had left.
        abandoned = done.interactor.verdict.signal == "SIGPIPE"
        if abandoned:
            found = Checked(Verdict.WRONG_ANSWER, 0.0, "ended before the interactor had said all")
        checked = of_interaction(
            done.program.verdict.status,
            found,
            interactor_first=done.interactor_first and not abandoned,
        )
        if checked.verdict is Verdict.ACCEPTED and self._ready.checker is not None:
            # testlib's interactors leave the verdict on what they wrote to the checker.
            written = {file.name: file.data for file in done.interactor.files}
            output = written.get(conventions.OUTPUT) or b""
            checked = await self._check(stdin, output, answer, points)
        return self._result(checked, done.program, done)

    def _result(
        self, checked: Checked, ran: Ran | None = None, interacted: Interacted | None = None
    ) -> CaseResult:
        result = CaseResult(
            name=self._name,
            group=self._case.group,
            verdict=checked.verdict,
            score=checked.score,
            message=checked.message,
        )
        if ran is None:
            return result
        result = replace(
            result,
            status=ran.verdict.status,
            exit_code=ran.verdict.exit_code,
            signal=ran.verdict.signal,
            cpu_time=round(ran.ended.facts.cpu_time, 6),
            wall_time=round(ran.ended.facts.wall_time, 6),
            peak_memory=ran.ended.peak_memory,
        )
        if interacted is not None:
            result = replace(
                result, interactor=_usage(interacted.interactor), transcript=interacted.transcript
            )
        wanted = self._ready.submission.outputs
        if wanted == "none" or (wanted == "failed" and checked.verdict is Verdict.ACCEPTED):
            return result
        return _with_outputs(result, ran, self._ready.submission.outputs_max)


def _tool_order(tool: Tool, call: conventions.Call) -> tuple[ExecOrder, Limits]:
    """What a judging program is told to do; its limits have room for what it is given."""
    given = [(path, FILE_MODE, content) for path, content in call.files]
    size = sum(len(content) for _, _, content in [*given, *tool.compiled.files]) + len(call.stdin)
    limits = replace(
        tool.limits,
        memory=tool.limits.memory + size,
        disk=max(tool.limits.disk, 2 * size + _ROOM),
    )
    argv = command(tool.language, limits, call.args)
    return order(argv, tool.language.env, [*tool.compiled.files, *given], limits), limits


def _reply(ran: Ran) -> conventions.Reply:
    return conventions.Reply(
        status=ran.verdict.status,
        exit_code=ran.verdict.exit_code,
        stderr=ran.stderr,
        files={file.name: file.data for file in ran.files if file.data is not None},
    )


def _usage(ran: Ran) -> Usage:
    return Usage(
        status=ran.verdict.status,
        exit_code=ran.verdict.exit_code,
        signal=ran.verdict.signal,
        cpu_time=round(ran.ended.facts.cpu_time, 6),
        wall_time=round(ran.ended.facts.wall_time, 6),
        peak_memory=ran.ended.peak_memory,
    )


def _with_outputs(result: CaseResult, ran: Ran, room: int) -> CaseResult:
    streams = ran.stdout[:room], ran.stderr[:room]
    cut = ran.cut[0] or len(ran.stdout) > room, ran.cut[1] or len(ran.stderr) > room
    text = texts(*streams, cut_stdout=cut[0], cut_stderr=cut[1])
    return replace(
        result,
        stdout=text.stdout,
        stderr=text.stderr,
        stdout_truncated=cut[0],
        stderr_truncated=cut[1],
        encoding=text.encoding,
    )
