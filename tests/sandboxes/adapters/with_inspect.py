"""inspect_ai's own checks of a sandbox provider, in an evaluation of one sample."""

import sys
import tempfile

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import includes
from inspect_ai.solver import Generate, TaskState, solver
from inspect_ai.tool import bash
from inspect_ai.util import SandboxEnvironmentSpec, sandbox
from inspect_ai.util._sandbox import self_check
from sandboxd_client import Sandbox
from sandboxd_client.integrations.inspect_ai import SandboxdConfig

EXPECTED: set[str] = set(sys.argv[1:])
"""Checks that do not apply, see the test."""
found: dict[str, object] = {}


@solver
def checks():
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        for name in self_check.__all__:
            try:
                await getattr(self_check, name)(sandbox())
                found[name] = True
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"[:300]
        return state

    return solve


@solver
def answers():
    """What a model would do; a real one, scripted or not, wants a tokenizer from the network."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        said = await bash(timeout=30)("echo $((6 * 7)) > n; cat n in.txt")
        state.output = ModelOutput.from_content("mockllm/model", str(said))
        return state

    return solve


task = Task(
    dataset=[Sample(input="What is it?", target="42", files={"in.txt": "from the sample"})],
    solver=[answers(), checks()],
    scorer=includes(),
    sandbox=SandboxEnvironmentSpec("sandboxd", SandboxdConfig(memory=256 << 20)),
)
with tempfile.TemporaryDirectory() as logs:
    (log,) = eval(task, model="mockllm/model", log_dir=logs, display="none")
    assert log.status == "success", log.error and log.error.message
    assert log.results is not None and log.results.scores[0].metrics["accuracy"].value == 1.0
    assert log.samples is not None
    assert "from the sample" in log.samples[0].output.completion
    failed = {name: result for name, result in found.items() if result is not True}
    assert set(failed) == EXPECTED and len(found) > 20, failed
left = [info.id for info in Sandbox.list(state="running") if "inspect_task" in info.metadata]
assert not left, left
print("fine", len(found))
