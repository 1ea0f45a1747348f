"""What language models are told of a sandbox's tools, and how their calls are read and answered: pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandboxd_client.sandbox_model import CommandResult

Document = dict[str, Any]

_LANGUAGES = ["python", "bash", "javascript"]
SCHEMAS: dict[str, Document] = {
    "run_code": {
        "description": "Run a program in an isolated Linux sandbox and get its output. Files persist "
        "between calls; variables do not.",
        "parameters": {
            "type": "object",
            "properties": {
                "code": {"type": "string", "description": "The whole program."},
                "language": {"type": "string", "enum": _LANGUAGES, "description": "python if left out."},
                "timeout": {"type": "number", "description": "Seconds it may take; 60 if left out."},
            },
            "required": ["code"],
            "additionalProperties": False,
        },
    },
    "run_command": {
        "description": "Run a shell command in an isolated Linux sandbox and get its output.",
        "parameters": {
            "type": "object",
            "properties": {
                "command": {"type": "string", "description": "For /bin/sh."},
                "cwd": {"type": "string", "description": "Working directory; /work if left out."},
                "timeout": {"type": "number", "description": "Seconds it may take; 60 if left out."},
            },
            "required": ["command"],
            "additionalProperties": False,
        },
    },
    "read_file": {
        "description": "Read a text file of the sandbox.",
        "parameters": {
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "Absolute, or relative to /work."},
            },
            "required": ["path"],
            "additionalProperties": False,
        },
    },
    "write_file": {
        "description": "Write a text file of the sandbox, with the directories it needs; what was there "
        "is replaced.",
        "parameters": {
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "Absolute, or relative to /work."},
                "content": {"type": "string"},
            },
            "required": ["path", "content"],
            "additionalProperties": False,
        },
    },
}  # fmt: skip
"""Name of a tool -> what it does, and the JSON schema of its arguments."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What a model asked for, whichever API it came by."""

    id: str
    name: str
    arguments: Mapping[str, Any]
    fault: str = ""
    """Why the arguments cannot be read, or empty."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    text: str
    failed: bool = False
    """The call made no sense or could not be done; a program's bad end is no failure of the call."""


def openai_tools() -> list[Document]:
    """For `tools=` of chat completions."""
    return [
        {"type": "function", "function": {"name": name, **schema}}
        for name, schema in SCHEMAS.items()
    ]


def openai_response_tools() -> list[Document]:
    """For `tools=` of the Responses API."""
    return [{"type": "function", "name": name, **schema} for name, schema in SCHEMAS.items()]


def anthropic_tools() -> list[Document]:
    """For `tools=` of the Messages API."""
    return [
        {"name": name, "description": schema["description"], "input_schema": schema["parameters"]}
        for name, schema in SCHEMAS.items()
    ]


def openai_call(call: Any) -> ToolCall:
    """Of a chat completion's `tool_calls`, or an item `function_call` of a response."""
    function = field(call, "function")
    source = call if function is None else function
    name = str(field(source, "name") or "")
    call_id = field(call, "call_id") or field(call, "id") or ""
    try:
        arguments = json.loads(field(source, "arguments") or "{}")
    except ValueError as error:
        return ToolCall(str(call_id), name, {}, f"the arguments are not JSON: {error}")
    return _checked(str(call_id), name, arguments)


def anthropic_call(block: Any) -> ToolCall:
    """Of a content block `tool_use`."""
    return _checked(
        str(field(block, "id") or ""), str(field(block, "name") or ""), field(block, "input")
    )


def field(value: Any, name: str) -> Any:
    """Of a dictionary or of an SDK's object; None where there is none."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def rendered(result: CommandResult, most: int) -> str:
    """How a command ended, in words for a model."""
    parts = []
    for name, text, cut in (
        ("stdout", result.stdout, result.stdout_truncated),
        ("stderr", result.stderr, result.stderr_truncated),
    ):
        if text or cut:
            note = " (its beginning was dropped)" if cut else ""
            parts.append(f"{name}{note}:\n{shortened(text, most)}")
    process = result.process
    if process.error is not None:
        parts.append(f"could not be started: {process.error}")
    elif process.timed_out:
        parts.append("killed: it took longer than its timeout")
    elif process.signal is not None:
        parts.append(f"killed by {process.signal}")
    elif process.exit_code != 0 or not parts:
        parts.append(f"exit code {process.exit_code}")
    return "\n".join(parts)


def shortened(text: str, most: int) -> str:
    """At most about `most` characters: the beginning and the end, and how much is missing between."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


_TYPES: dict[str, type | tuple[type, ...]] = {"string": str, "number": (int, float)}


def _checked(call_id: str, name: str, arguments: Any) -> ToolCall:
    """Models make mistakes: they are told of them in words that they can act on."""
    schema = SCHEMAS.get(name)
    if schema is None:
        return ToolCall(
            call_id, name, {}, f"there is no tool {name!r}; there are {', '.join(SCHEMAS)}"
        )
    if not isinstance(arguments, Mapping):
        return ToolCall(call_id, name, {}, "the arguments are not an object")
    known = schema["parameters"]["properties"]
    for each in schema["parameters"]["required"]:
        if each not in arguments:
            return ToolCall(call_id, name, {}, f"{each} is missing")
    for each, value in arguments.items():
        if each not in known:
            return ToolCall(call_id, name, {}, f"there is no argument {each!r}")
        if not isinstance(value, _TYPES[known[each]["type"]]) or isinstance(value, bool):
            return ToolCall(call_id, name, {}, f"{each} is not a {known[each]['type']}")
        if value not in known[each].get("enum", [value]):
            return ToolCall(call_id, name, {}, f"{each} is one of {', '.join(known[each]['enum'])}")
    return ToolCall(call_id, name, dict(arguments))
