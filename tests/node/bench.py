"""One program in one real sandbox, as the node runs it."""

import asyncio
import select
from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sandboxd.drivers.exec.base import Built, Spec
from sandboxd.drivers.exec.native import NativeDriver
from sandboxd.model import Limits
from sandboxd.native import ExecOrder
from sandboxd.node.files import Brought
from sandboxd.node.outcome import Stop, Verdict, classify
from sandboxd.node.sandbox import Ended, Sandbox
from sandboxd.node.stdio import FixedInput, Input, Output
from tests.drivers.members import directories

MIB = 1 << 20
LIMITS = Limits(cpu_time=5.0, wall_time=20.0, memory=128 * MIB, pids=16, output=4096, disk=16 * MIB)


class Outcome(Struct, kw_only=True):
    ended: Ended
    verdict: Verdict
    stdout: bytes
    stderr: bytes
    brought: list[Brought]

    def file(self, name: str) -> Brought:
        (found,) = [file for file in self.brought if file.name == name]
        return found


class Bench:
    def __init__(self, driver: NativeDriver, spec: Spec, instance: str) -> None:
        self.driver, self.spec, self.instance = driver, spec, instance

    async def build(self, **changes: Any) -> Built:
        return await asyncio.to_thread(self.driver.build, replace(self.spec, **changes))

    def caps(self, built: Built) -> tuple[int, int]:
        """Memory and pids limits, read back from the kernel."""
        found: dict[str, int] = {}
        for path in directories(self.instance, built.name):
            for file in ("memory.limit_in_bytes", "memory.max", "pids.max"):
                if (path / file).exists():
                    found[file.partition(".")[0]] = int((path / file).read_text())
        return found["memory"], found["pids"]

    async def run(
        self,
        argv: Sequence[str],
        limits: Limits = LIMITS,
        *,
        files: Sequence[tuple[str, int, bytes]] = (),
        stdin: Input | None = None,
        collect: Sequence[str] = (),
        glob: bool = False,
        budget: int = MIB,
        stop: Stop | None = None,
        capped: bool = False,
    ) -> Outcome:
        """Run and judge one program. `stop` ends it before it starts; with `capped`, the limits are
        read back from the kernel before the program is let in."""
        built = await self.build()
        sandbox = Sandbox(built)
        stdout = Output(limits.output, lambda: sandbox.stop(Stop.OUTPUT))
        stderr = Output(limits.output, lambda: sandbox.stop(Stop.OUTPUT))
        given = FixedInput(b"") if stdin is None else stdin
        order = ExecOrder(
            argv=argv,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            files=files,
            open_files=limits.open_files,
            stack=limits.stack,
            file_size=limits.disk,
        )
        try:
            if stop is not None:
                sandbox.stop(stop)
                # Gone before it is asked to run: the order meets a closed socket.
                gone = await asyncio.to_thread(select.select, [built.native.pidfd], [], [], 10)
                assert gone[0]
            if capped:
                await asyncio.to_thread(
                    built.group.limit, memory=limits.memory, pids=limits.pids + 1
                )
                assert await asyncio.to_thread(self.caps, built) == (
                    limits.memory,
                    limits.pids + 1,
                )
            ended = await sandbox.run(order, limits, given, stdout, stderr, quiesce=bool(collect))
            brought = await sandbox.bring_out(collect, glob=glob, budget=budget)
        finally:
            given.start()
            given.close()
            stdout.drain()
            stderr.drain()
            sandbox.release()
            await asyncio.to_thread(self.driver.destroy, built)
        return Outcome(
            ended=ended,
            verdict=classify(ended.facts, limits),
            stdout=bytes(stdout.kept),
            stderr=bytes(stderr.kept),
            brought=brought,
        )

    async def python(self, code: str, limits: Limits = LIMITS, **options: Any) -> Outcome:
        files = [("main.py", 0o644, code.encode())]
        return await self.run(
            ["/usr/bin/python3", "-IS", "main.py"], limits, files=files, **options
        )
