"""A CodeAgent of the real smolagents, its model replaced by a script of what a model would say."""

from sandboxd_client import Sandbox
from sandboxd_client.integrations.smolagents import SandboxdExecutor
from smolagents import CodeAgent, tool
from smolagents.models import ChatMessage, MessageRole, Model
from smolagents.utils import AgentError

STEPS = [
    "import os\nnumbers = [1, 2, 3]\nprint('in', os.getcwd())",
    "1 / 0",
    "total = double(sum(numbers))\nfinal_answer({'total': total, 'uid': os.getuid()})",
]


class Scripted(Model):
    def __init__(self) -> None:
        super().__init__(model_id="scripted")
        self.heard: list[str] = []

    def generate(self, messages, **options):
        self.heard.append(str(messages[-1].content))
        code = STEPS[len(self.heard) - 1]
        return ChatMessage(
            role=MessageRole.ASSISTANT, content=f"Thought: go on\n<code>\n{code}\n</code>"
        )


@tool
def double(number: int) -> int:
    """Twice a number.

    Args:
        number: The number.
    """
    return number * 2


with Sandbox.create() as sandbox:
    executor, model = SandboxdExecutor(sandbox), Scripted()
    agent = CodeAgent(tools=[double], model=model, executor=executor, verbosity_level=0)
    answer = agent.run("Add them.")
    assert answer == {"total": 12, "uid": 1000}, answer
    assert "in /work" in model.heard[1], model.heard
    assert "ZeroDivisionError" in model.heard[2], model.heard
    assert len(sandbox.process.list()) == 1, "one interpreter for all steps"
    assert executor("numbers").output == "[1, 2, 3]"
    try:
        executor("import os; os._exit(3)")
    except AgentError as error:
        assert "variables are lost" in str(error)
    else:
        raise AssertionError("an end of the interpreter is told")
    assert executor("2 + 2").output == "4", "and another one is started"
    executor.cleanup()
print("fine")
