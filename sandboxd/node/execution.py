"""One job on this node: compile where the language compiles, run, and say how it went.

Each program gets a sandbox of its own. What the compiler made travels as bytes from the one to the
other, read through descriptors that the first one's init opened.
"""

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict

from sandboxd.drivers.exec.base import Built
from sandboxd.errors import DriverFault
from sandboxd.model import FileContent, Job, Language, Limits, Outcome, Result, Status
from sandboxd.model import argv as fill
from sandboxd.model.egress import NetworkRequest
from sandboxd.model.network_use import NetworkUse
from sandboxd.native import ExecOrder
from sandboxd.node.files import Brought
from sandboxd.node.fitting import Fitter, special
from sandboxd.node.job_environment import base_env
from sandboxd.node.job_environment import order as make_order
from sandboxd.node.live import Live
from sandboxd.node.network import Networks
from sandboxd.node.network_use import Use
from sandboxd.node.outcome import Stop, Verdict, classify
from sandboxd.node.pool import Pool
from sandboxd.node.results import collected, outcome
from sandboxd.node.sandbox import LARGE, Sandbox
from sandboxd.node.stdio import FixedInput, Input, LiveInput, Output
from sandboxd.node.warmth import shelves
from sandboxd.policy import Policies

_FILE_MODE = 0o755
"""Of every file put in: a source may be run by its name, as a compiled program must be."""
_ARTIFACTS_MAX = 192 << 20
"""Bytes; with the request's own files they fit into one order (SBX_EXEC_MAX)."""

Files = list[tuple[str, int, bytes]]


class Execution:
    def __init__(
        self,
        job: Job,
        policies: Policies,
        pool: Pool,
        *,
        node: str,
        collect_max: int,
        networks: Networks | None = None,
        fitter: Fitter | None = None,
    ) -> None:
        """Raises DriverFault if this node's policies do not know the language."""
        self._job, self._pool, self._networks = job, pool, networks
        self._fitter = fitter
        self._node, self._collect_max = node, collect_max
        self._language: Language | None = None
        if job.request.language is not None:
            self._language = policies.language(job.request.language)
            if self._language is None:
                raise DriverFault("policies", "find the language", job.request.language)
        self._run_shelves = shelves(job, self._language, policies)
        compiles = self._language is not None and self._language.compile is not None
        self.shelves = (job.template,) if compiles else self._run_shelves
        """Where in the pool the job's first sandbox may come from, the best first."""
        self._sandbox: Sandbox | None = None
        self._cancelled = False
        self.live = Live(interactive=job.request.interactive)
        self._started_at = _now()
        self._started: Awaitable[bool] | None = None
        """What the job's first program waits for."""
        self._use: Use | None = None
        self._network: NetworkUse | UnsetType = UNSET

    def cancel(self) -> None:
        """End whatever runs now; the result says `cancelled`."""
        self._cancelled = True
        if self._sandbox is not None:
            self._sandbox.stop(Stop.CANCELLED)

    async def first(self) -> Built:
        """The job's first sandbox. Raises as the pool and, for what only this job needs, as
        `Fitter.claim`."""
        if self._language is not None and self._language.compile is not None:
            return await self._pool.claim(*self.shelves)
        return await self._claim()

    async def _claim(self) -> Built:
        """Where the program itself runs."""
        if special(self._job):
            if self._fitter is None:
                raise DriverFault("graph", "fit a sandbox", "this node has no images")
            return await self._fitter.claim(self._job)
        return await self._pool.claim(*self._run_shelves)

    async def run(self, first: Built, started: Awaitable[bool] | None = None) -> Result:
        """The job's result. Uses up `first`, a sandbox of the job's template. Nothing is executed
        before `started`, if it is given.

        Raises NotStarted if that is False, and SystemFault if the host failed; then nothing of the job
        is left running.
        """
        self._started = started
        language = self._language
        files = _given_files(self._job, language)
        compiled: Outcome | None = None
        built = first
        if language is not None and language.compile is not None:
            verdict, compiled, artifacts = await self._compile(first, language, files)
            if compiled.status is not Status.OK:
                return self._compile_ended(verdict, compiled, first)
            made = {language.source, *(name for name, _, _ in artifacts)}
            files = artifacts + [file for file in files if file[0] not in made]
            built = await self._claim()
        return await self._run(built, files, compiled)

    async def _compile(
        self, built: Built, language: Language, files: Files
    ) -> tuple[Verdict, Outcome, Files]:
        recipe, request = language.compile, self._job.request
        assert recipe is not None and self._job.compile_limits is not None
        limits = self._job.compile_limits
        argv = [
            *fill(recipe.command, source=language.source, memory=limits.memory),
            *request.compile_args,
        ]
        env = {**base_env(built.spec.image), **language.env, **recipe.env}
        order = make_order(argv, env, files, limits)
        verdict, result, brought = await self._program(
            built, order, limits, FixedInput(b""), collect=recipe.artifacts, glob=True
        )
        artifacts = [
            (file.name, _FILE_MODE, file.data) for file in brought if file.data is not None
        ]
        if verdict.status is Status.OK and not artifacts:
            note = f"sandboxd: the compiler made none of {', '.join(recipe.artifacts)}\n"
            result = Outcome(
                **{**asdict(result), "status": Status.COMPILE_ERROR, "stderr": result.stderr + note}
            )
        return verdict, result, artifacts

    async def _run(self, built: Built, files: Files, compiled: Outcome | None) -> Result:
        request, limits, language = self._job.request, self._job.limits, self._language
        if request.network != "none":
            await self._attach(built, request.network)
        if language is not None:
            command = fill(language.run, source=language.source, memory=limits.memory)
            argv, env = [*command, *request.args], language.env
        else:
            argv, env = [*(request.command or ()), *request.args], {}
        image = built.spec.image
        basis = {} if self._job.exact_env else base_env(image)
        order = make_order(argv, {**basis, **env, **request.env}, files, limits)
        if language is None and not files and image.workdir:
            order = msgspec.structs.replace(order, cwd=image.workdir)
        stdin: Input
        if request.interactive:
            stdin = LiveInput()
        elif isinstance(request.stdin, FileContent):
            stdin = await _fixed(request.stdin.data())
        else:
            stdin = await _fixed(request.stdin.encode())
        verdict, ended, brought = await self._program(
            built, order, limits, stdin, collect=request.collect, glob=False, live=True
        )
        found, errors = collected(brought)
        return self._result(
            built,
            **asdict(ended),
            files=found,
            file_errors=errors,
            compile=compiled,
            network=self._network,
            reason=_reason(verdict),
        )

    async def _attach(self, built: Built, network: str | NetworkRequest) -> None:
        """Raises DriverFault; the sandbox is then gone."""
        try:
            if self._networks is None:
                raise DriverFault("network", "find the policy", str(network))
            self._use = await self._networks.attach(built, network)
        except BaseException:
            self._pool.discard(built)
            raise

    async def _program(
        self,
        built: Built,
        order: ExecOrder,
        limits: Limits,
        stdin: Input,
        *,
        collect: list[str],
        glob: bool,
        live: bool = False,
    ) -> tuple[Verdict, Outcome, list[Brought]]:
        """Run one program in one sandbox, bring its files out, and let the sandbox go."""
        sandbox = self._sandbox = Sandbox(built)
        stdout = Output(limits.output, lambda: sandbox.stop(Stop.OUTPUT))
        stderr = Output(limits.output, lambda: sandbox.stop(Stop.OUTPUT))
        try:
            if live:
                self.live.open(stdin if isinstance(stdin, LiveInput) else None, stdout, stderr)
            if self._cancelled:
                sandbox.stop(Stop.CANCELLED)
            started, self._started = self._started, None
            ended = await sandbox.run(
                order, limits, stdin, stdout, stderr, quiesce=bool(collect), started=started
            )
            verdict = classify(ended.facts, limits)
            if self._use is not None:
                self._network = await self._use.told()
            brought: list[Brought] = []
            if collect and verdict.status is not Status.CANCELLED:
                budget = _ARTIFACTS_MAX if glob else self._collect_max
                brought = await sandbox.bring_out(collect, glob=glob, budget=budget)
        finally:
            self._sandbox = None
            stdin.start()
            stdin.close()
            stdout.drain()
            stderr.drain()
            sandbox.release()
            self._pool.discard(built)
        result = outcome(
            verdict,
            ended,
            bytes(stdout.kept),
            bytes(stderr.kept),
            cut=(stdout.exceeded, stderr.exceeded),
        )
        return verdict, result, brought

    def _compile_ended(self, verdict: Verdict, compiled: Outcome, built: Built) -> Result:
        status = compiled.status
        if status not in (Status.CANCELLED, Status.INTERNAL_ERROR):
            status = Status.COMPILE_ERROR
        return self._result(built, status=status, compile=compiled, reason=_reason(verdict))

    def _result(self, built: Built, **fields: object) -> Result:
        return Result(
            id=self._job.id,
            isolation=sorted(built.layers),
            language=self._job.request.language,
            node=self._node,
            created_at=self._job.created_at,
            started_at=self._started_at,
            finished_at=_now(),
            **fields,  # type: ignore[arg-type]
        )


async def _fixed(data: bytes) -> FixedInput:
    return FixedInput(data) if len(data) < LARGE else await asyncio.to_thread(FixedInput, data)


def _reason(verdict: Verdict) -> str | None:
    """For the result; with an exit code it stands in stderr already."""
    return verdict.reason if verdict.exit_code is None else None


def _given_files(job: Job, language: Language | None) -> Files:
    files = [(path, _FILE_MODE, content.data()) for path, content in job.request.files.items()]
    if language is not None and job.request.source is not None:
        files.append((language.source, _FILE_MODE, job.request.source.encode()))
    return files


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
