"""Tools for language models, for threads. Made of `async_tools` by tools/unasync.py: do not edit."""

from collections.abc import Iterable
from typing import Any

from sandboxd_client.errors import RequestError, SandboxdError
from sandboxd_client.sync_sandbox import Sandbox
from sandboxd_client.tool_schemas import (
    Document,
    ToolCall,
    ToolResult,
    anthropic_call,
    anthropic_tools,
    field,
    openai_call,
    openai_response_tools,
    openai_tools,
    rendered,
    shortened,
)

_TIMEOUT = 60.0


class SandboxTools:
    """`run_code`, `run_command`, `read_file` and `write_file` on one sandbox.

    Give a model `openai()` or `anthropic()` as its tools, and what it answers to the method beside it;
    what that returns goes back to the model as it is. A model's mistakes, missing files and programs that
    fail are told to it in words; raised is only what it cannot mend: a sandbox that is gone, a service
    that does not answer.
    """

    def __init__(
        self, sandbox: Sandbox, *, timeout_max: float = 600.0, output_max: int = 20_000
    ) -> None:
        """`timeout_max`: seconds that the model may ask for at most. `output_max`: characters of each
        stream or file that it gets to see."""
        self._sandbox = sandbox
        self._timeout_max, self._output_max = timeout_max, output_max

    def openai(self) -> list[Document]:
        """`tools=` of chat completions."""
        return openai_tools()

    def openai_responses(self) -> list[Document]:
        """`tools=` of the Responses API."""
        return openai_response_tools()

    def anthropic(self) -> list[Document]:
        """`tools=` of the Messages API."""
        return anthropic_tools()

    def openai_messages(self, tool_calls: Iterable[Any] | None) -> list[Document]:
        """The messages that answer `message.tool_calls` of a chat completion, given as the SDK's
        objects or as dictionaries."""
        messages = []
        for call in map(openai_call, tool_calls or ()):
            result = self.call(call)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result.text})
        return messages

    def openai_outputs(self, output: Iterable[Any]) -> list[Document]:
        """The items that answer the `function_call`s in `response.output` of the Responses API."""
        items = []
        for item in output:
            if field(item, "type") == "function_call":
                call = openai_call(item)
                result = self.call(call)
                items.append(
                    {"type": "function_call_output", "call_id": call.id, "output": result.text}
                )
        return items

    def anthropic_results(self, content: Iterable[Any]) -> list[Document]:
        """The `tool_result` blocks, content of the next user message, that answer the `tool_use` blocks
        in `message.content`."""
        blocks = []
        for block in content:
            if field(block, "type") == "tool_use":
                call = anthropic_call(block)
                result = self.call(call)
                blocks.append(
                    {
                        "type": "tool_result",
                        "tool_use_id": call.id,
                        "content": result.text,
                        "is_error": result.failed,
                    }
                )
        return blocks

    def call(self, call: ToolCall) -> ToolResult:
        """One call. Raises SandboxdError only if no other call could do better."""
        if call.fault:
            return ToolResult(f"error: {call.fault}", failed=True)
        try:
            return ToolResult(self._do(call))
        except RequestError as error:
            if error.code in ("not_found", "sandbox_ended", "unauthorized"):
                raise
            return ToolResult(f"error: {error.detail} ({error.code})", failed=True)

    def _do(self, call: ToolCall) -> str:
        arguments = call.arguments
        match call.name:
            case "run_code":
                result = self._sandbox.run_code(
                    arguments["code"], language=arguments.get("language", "python"),
                    timeout=self._timeout(arguments),
                )  # fmt: skip
                return rendered(result, self._output_max)
            case "run_command":
                result = self._sandbox.run(
                    arguments["command"], cwd=arguments.get("cwd", "/work"),
                    timeout=self._timeout(arguments),
                )  # fmt: skip
                return rendered(result, self._output_max)
            case "read_file":
                text = self._sandbox.files.read_text(arguments["path"])
                return shortened(text, self._output_max)
            case "write_file":
                info = self._sandbox.files.write(arguments["path"], arguments["content"])
                return f"wrote {info.size} bytes"
        raise SandboxdError(f"there is no tool {call.name!r}")

    def _timeout(self, arguments: Any) -> float:
        return max(0.1, min(self._timeout_max, float(arguments.get("timeout", _TIMEOUT))))
