"""Carries out the RUN steps of builds, each in a sandbox of its own under the template `build`.

The build itself (`drivers/graph/builder`) waits in a thread; its steps run on the event loop like every
other program, and what they change is sealed when the last process of the step is gone.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from sandboxd.drivers.exec.base import Built, ExecDriver, Spec
from sandboxd.drivers.graph.builder.build import RunEnd
from sandboxd.drivers.graph.builder.steps import Run
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.layers import Layer
from sandboxd.drivers.graph.overlay import Rootfs
from sandboxd.drivers.graph.snapshot import seal
from sandboxd.drivers.graph.store import Lease
from sandboxd.errors import DriverFault
from sandboxd.model import Limits, Status
from sandboxd.native import ExecOrder
from sandboxd.node.job_environment import order
from sandboxd.node.outcome import Stop, Verdict, classify
from sandboxd.node.sandbox import Sandbox
from sandboxd.node.stdio import FixedInput, Output

TEMPLATE = "build"
_DEFAULTS = {"LANG": "C.UTF-8"}


class StepRunner:
    def __init__(
        self,
        driver: ExecDriver,
        graph: Graph,
        rootfs: Rootfs,
        spec: Spec,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`spec` and `limits` are those of the template `build`; steps run on `loop`."""
        self._driver, self._graph, self._rootfs = driver, graph, rootfs
        self._spec, self._limits, self._loop = spec, limits, loop
        self._sandbox: Sandbox | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """End the step that runs, and let no other begin. On the loop."""
        self._cancelled = True
        if self._sandbox is not None:
            self._sandbox.stop(Stop.CANCELLED)

    def run(
        self,
        layers: Sequence[Layer],
        step: Run,
        uid: int,
        lease: Lease,
        output: Callable[[bytes], None],
    ) -> RunEnd:
        """Not on the loop's own thread. Raises SystemFault where the host failed."""
        image = self._rootfs.of_layers(layers)
        if image.uid_base is None:
            raise DriverFault("graph", "build", "the store's file system cannot map owners")
        spec = msgspec.structs.replace(self._spec, image=image, build_user=uid)
        built = self._driver.build(spec)
        try:
            made = order(step.argv, {**_DEFAULTS, **step.env}, (), self._limits)
            made = msgspec.structs.replace(made, cwd=step.workdir)
            running = self._execute(built, made, output)
            verdict = asyncio.run_coroutine_threadsafe(running, self._loop).result()
            if verdict.status is not Status.OK:
                return RunEnd(_problem(verdict))
            return RunEnd("", seal(self._graph.images, lease, built.native.scratch, built.uid))
        finally:
            self._driver.destroy(built)

    async def _execute(
        self, built: Built, made: ExecOrder, output: Callable[[bytes], None]
    ) -> Verdict:
        sandbox = self._sandbox = Sandbox(built)
        stdout = Output(self._limits.output, lambda: sandbox.stop(Stop.OUTPUT))
        stderr = Output(self._limits.output, lambda: sandbox.stop(Stop.OUTPUT))
        stdout.listener = stderr.listener = output
        stdin = FixedInput(b"")
        try:
            if self._cancelled:
                sandbox.stop(Stop.CANCELLED)
            # Whoever is left behind is ended, and init stays, so that nothing moves any more.
            ended = await sandbox.run(made, self._limits, stdin, stdout, stderr, quiesce=True)
        finally:
            self._sandbox = None
            stdin.close()
            stdout.drain()
            stderr.drain()
            sandbox.release()
        return classify(ended.facts, self._limits)


def _problem(verdict: Verdict) -> str:
    if verdict.reason is not None:
        return verdict.reason
    if verdict.exit_code is not None:
        return f"it ended with {verdict.exit_code}"
    return verdict.status.value
