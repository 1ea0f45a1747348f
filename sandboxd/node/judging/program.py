"""One program of a submission in one sandbox: the solution, a compiler, a checker, an interactor."""

import asyncio

from msgspec import Struct

from sandboxd.drivers.exec.base import Built
from sandboxd.model import Language, Limits, Outcome, Status
from sandboxd.model import argv as fill
from sandboxd.native import ExecOrder
from sandboxd.node import job_environment
from sandboxd.node.files import Brought
from sandboxd.node.outcome import Stop, Verdict, classify
from sandboxd.node.pool import Pool
from sandboxd.node.results import outcome
from sandboxd.node.sandbox import LARGE, Ended, Sandbox
from sandboxd.node.stdio import FixedInput, Input, Output, PassedOutput

FILE_MODE = 0o755
Files = list[tuple[str, int, bytes]]


class Ran(Struct, frozen=True, kw_only=True):
    verdict: Verdict
    ended: Ended
    stdout: bytes
    stderr: bytes
    cut: tuple[bool, bool]
    """Whether there was more of stdout and of stderr."""
    files: list[Brought]
    layers: frozenset[str]
    closed_at: float | None = None
    """When nobody held its stderr any more, see `Output.closed_at`."""

    def outcome(self) -> Outcome:
        return outcome(self.verdict, self.ended, self.stdout, self.stderr, cut=self.cut)


class Workplace:
    """The sandboxes that one submission uses at the moment; all can be stopped at once."""

    def __init__(self, pool: Pool, first: Built | None = None) -> None:
        """`first` is a sandbox that was claimed for it already."""
        self._pool, self._spare = pool, first
        self._busy: set[Sandbox] = set()
        self.stopped = False

    def stop(self) -> None:
        """End what runs, and let nothing start any more."""
        self.stopped = True
        for sandbox in self._busy:
            sandbox.stop(Stop.CANCELLED)

    def close(self) -> None:
        if self._spare is not None:
            self._pool.restock(self._spare)
            self._spare = None

    def part(self) -> "Workplace":
        """A workplace within this one, which can be stopped by itself; close only the whole."""
        return _Part(self)

    async def claim(self, shelves: tuple[str, ...]) -> Built:
        spare = self._spare
        if spare is not None and spare.spec.template in shelves:
            self._spare = None
            return spare
        return await self._pool.claim(*shelves)

    async def run(
        self,
        shelves: tuple[str, ...],
        order: ExecOrder,
        limits: Limits,
        stdin: bytes | Input,
        *,
        stdout: PassedOutput | None = None,
        collect: list[str] | None = None,
        glob: bool = False,
        budget: int = 0,
        core: int | None = None,
    ) -> Ran:
        """Run `order` to its end, in a sandbox of one of the shelves that is gone afterwards, on `core`
        if one is named.

        Raises SystemFault or Overload if the host failed. The descriptors of `stdin` and `stdout`
        are closed here in any case.
        """
        given = None if isinstance(stdin, bytes) else stdin
        try:
            built = await self.claim(shelves)
        except BaseException:
            if given is not None:
                given.start()
                given.close()
            if stdout is not None:
                stdout.start()
            raise
        source = await _fixed(stdin) if isinstance(stdin, bytes) else stdin
        return await self._use(
            built, order, limits, source, stdout, collect or [], glob, budget, core
        )

    async def _use(
        self,
        built: Built,
        order: ExecOrder,
        limits: Limits,
        stdin: Input,
        passed: PassedOutput | None,
        collect: list[str],
        glob: bool,
        budget: int,
        core: int | None,
    ) -> Ran:
        sandbox = Sandbox(built)
        kept = Output(limits.output, lambda: sandbox.stop(Stop.OUTPUT)) if passed is None else None
        stdout = kept or passed
        assert stdout is not None
        stderr = Output(limits.output, lambda: sandbox.stop(Stop.OUTPUT))
        self.enter(sandbox)
        try:
            if core is not None:
                await asyncio.to_thread(built.group.pin, core)
            ended = await sandbox.run(order, limits, stdin, stdout, stderr, quiesce=bool(collect))
            verdict = classify(ended.facts, limits)
            files: list[Brought] = []
            if collect and verdict.status is not Status.CANCELLED:
                files = await sandbox.bring_out(collect, glob=glob, budget=budget)
        finally:
            self.leave(sandbox)
            stdin.start()
            stdin.close()
            stdout.drain()
            stderr.drain()
            sandbox.release()
            self._pool.discard(built)
        return Ran(
            verdict=verdict,
            ended=ended,
            stdout=bytes(kept.kept) if kept is not None else b"",
            stderr=bytes(stderr.kept),
            cut=(stdout.exceeded, stderr.exceeded),
            files=files,
            layers=frozenset(built.layers),
            closed_at=stderr.closed_at,
        )

    def enter(self, sandbox: Sandbox) -> None:
        self._busy.add(sandbox)
        if self.stopped:
            sandbox.stop(Stop.CANCELLED)

    def leave(self, sandbox: Sandbox) -> None:
        self._busy.discard(sandbox)


class _Part(Workplace):
    def __init__(self, whole: Workplace) -> None:
        super().__init__(whole._pool)
        self._whole = whole

    async def claim(self, shelves: tuple[str, ...]) -> Built:
        return await self._whole.claim(shelves)

    def enter(self, sandbox: Sandbox) -> None:
        self._whole.enter(sandbox)
        super().enter(sandbox)

    def leave(self, sandbox: Sandbox) -> None:
        self._whole.leave(sandbox)
        super().leave(sandbox)


def order(argv: list[str], env: dict[str, str], files: Files, limits: Limits) -> ExecOrder:
    return job_environment.order(argv, {**job_environment.BASE_ENV, **env}, files, limits)


def command(language: Language, limits: Limits, args: list[str]) -> list[str]:
    """argv of a program of that language."""
    return [*fill(language.run, source=language.source, memory=limits.memory), *args]


async def _fixed(data: bytes) -> FixedInput:
    return FixedInput(data) if len(data) < LARGE else await asyncio.to_thread(FixedInput, data)
