"""smolagents: a CodeAgent whose Python runs in a sandbox, its variables kept from step to step.

    with Sandbox.create() as sandbox:
        agent = CodeAgent(tools=[], model=model, executor=SandboxdExecutor(sandbox))
        agent.run("…")

One interpreter lives in the sandbox as long as the executor. What comes back is data: JSON, never pickle.
"""

import json
from typing import Any

from smolagents.local_python_executor import CodeOutput
from smolagents.monitoring import AgentLogger, LogLevel
from smolagents.remote_executors import RemotePythonExecutor
from smolagents.serialization import SafeSerializer
from smolagents.utils import AgentError

from sandboxd_client.errors import ServerError
from sandboxd_client.sync_sandbox import Sandbox
from sandboxd_client.sync_terminal import Terminal

_DRIVER = r"""
import ast, io, json, os, sys, traceback
told = os.fdopen(os.dup(1), "w", encoding="utf-8")
orders = os.fdopen(os.dup(0), "r", encoding="utf-8")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(2, 1)
try:
    import PIL.Image
except ImportError:  # smolagents' own tools ask of a value whether it is a picture
    import types
    PIL = sys.modules["PIL"] = types.ModuleType("PIL")
    PIL.Image = sys.modules["PIL.Image"] = types.ModuleType("PIL.Image")
    PIL.Image.Image = type("Image", (), {})
space = {"__name__": "__main__", "__builtins__": __builtins__}
for order in orders:
    sys.stdout = sys.stderr = said = io.StringIO()
    answer = {"value": None, "error": None}
    try:
        tree = ast.parse(json.loads(order), "<agent>")
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "<agent>", "exec"), space)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "<agent>", "eval"), space)
            answer["value"] = None if value is None else repr(value)
    except BaseException as error:
        answer["error"] = [type(error).__name__, str(error), traceback.format_exc()]
    answer["logs"] = said.getvalue()
    told.write(json.dumps(answer) + "\n")
    told.flush()
"""
_ANSWER_MAX = 64 << 20


class SandboxdExecutor(RemotePythonExecutor):  # type: ignore[misc]
    def __init__(
        self,
        sandbox: Sandbox,
        additional_imports: list[str] | None = None,
        logger: AgentLogger | None = None,
        *,
        timeout: float = 300.0,
    ) -> None:
        """`additional_imports` have to be in the sandbox's image. `timeout`: seconds without a sign of
        life that one step may take, after which the sandbox's interpreter is given up."""
        super().__init__(additional_imports or [], logger or AgentLogger(LogLevel.ERROR))
        self._sandbox, self._timeout = sandbox, timeout
        self._terminal: Terminal | None = None
        for name in self.additional_imports:
            self.run_code_raise_errors(f"import {name}")

    def run_code_raise_errors(self, code: str) -> CodeOutput:
        answer = self._ask(code)
        logs, error = str(answer.get("logs", "")), answer.get("error")
        if error is None:
            return CodeOutput(output=answer.get("value"), logs=logs, is_final_answer=False)
        name, text, trace = (str(part) for part in error)
        if name == self.FINAL_ANSWER_EXCEPTION:
            value = SafeSerializer.loads(text, allow_pickle=False)
            return CodeOutput(output=value, logs=logs, is_final_answer=True)
        raise AgentError(f"{logs}\n{trace}", self.logger)

    def install_packages(self, additional_imports: list[str]) -> list[str]:
        """Packages come with the image: a sandbox has no network unless its owner gave it one. What is
        not there fails where it is used, in words that the model can act on."""
        self.logger.log(f"not installed, taken from the image: {', '.join(additional_imports)}")
        return additional_imports

    def cleanup(self) -> None:
        """Ends the interpreter; the sandbox is its owner's."""
        terminal, self._terminal = self._terminal, None
        if terminal is not None:
            terminal.__exit__(None, None, None)

    def _ask(self, code: str) -> dict[str, Any]:
        if self._terminal is None:
            live = self._sandbox.process.live(
                ["python3", "-u", "-c", _DRIVER], stdin=True, keep_output=0
            )
            self._terminal = live.__enter__()
        self._terminal.write(json.dumps(code) + "\n")
        line = b""
        while not line.endswith(b"\n"):
            piece = self._terminal.receive(self._timeout)
            if piece is None:
                self.cleanup()
                raise AgentError("the interpreter ended; its variables are lost", self.logger)
            if piece.stream == "stdout":
                line += piece.data
            if len(line) > _ANSWER_MAX:
                self.cleanup()
                raise AgentError("the output is too large", self.logger)
        answer = json.loads(line)
        if not isinstance(answer, dict):
            raise ServerError("the interpreter's answer is none", code="bad_answer")
        return answer
