"""How an answer differs from the right one: a list of sentences, empty if it is right."""

import base64
from collections.abc import Iterator
from typing import Any

from tests.matrix.case import UNSAID, Expect, Range

SHOWN = 300
"""Bytes of a stream that a message quotes."""


def stream(answer: dict[str, Any], name: str) -> bytes:
    """The bytes of `stdout` or `stderr`, whichever way they came."""
    text: str = answer[name]
    return (
        base64.b64decode(text, validate=True) if answer["encoding"] == "base64" else text.encode()
    )


def differences(expect: Expect, answer: dict[str, Any]) -> list[str]:
    found = [*_end(expect, answer), *_accounting(expect, answer)]
    for name in ("stdout", "stderr"):
        found += _stream(expect, name, answer)
    found += _number(expect, answer)
    found += _files(expect, answer)
    if expect.compile is not None:
        compiled = answer.get("compile")
        if compiled is None:
            found.append("compile is null")
        else:
            found += [f"compile: {text}" for text in differences(expect.compile, compiled)]
    return found


def _end(expect: Expect, answer: dict[str, Any]) -> Iterator[str]:
    for name in ("status", "exit_code", "signal"):
        wanted = getattr(expect, name)
        if wanted != UNSAID and answer[name] != wanted:
            yield f"{name} is {answer[name]!r}, not {wanted!r}"
    for name in ("stdout_truncated", "stderr_truncated"):
        if answer[name] is not getattr(expect, name):
            yield f"{name} is {answer[name]!r}"
    if expect.encoding is not None and answer["encoding"] != expect.encoding:
        yield f"encoding is {answer['encoding']!r}, not {expect.encoding!r}"


def _accounting(expect: Expect, answer: dict[str, Any]) -> Iterator[str]:
    for name in ("cpu_time", "wall_time", "peak_memory"):
        wanted: Range | None = getattr(expect, name)
        if wanted is not None and not wanted[0] <= answer[name] <= wanted[1]:
            yield f"{name} is {answer[name]}, not within {wanted}"


def _stream(expect: Expect, name: str, answer: dict[str, Any]) -> Iterator[str]:
    got = stream(answer, name)
    exact, length = getattr(expect, name), getattr(expect, f"{name}_len")
    if exact is not None and got != exact:
        yield f"{name} is {got[:SHOWN]!r} ({len(got)} bytes), not {exact[:SHOWN]!r}"
    if length is not None and len(got) != length:
        yield f"{name} has {len(got)} bytes, not {length}"
    for part in getattr(expect, f"{name}_has"):
        if part not in got:
            yield f"{name} is {got[:SHOWN]!r}, without {part!r}"


def _number(expect: Expect, answer: dict[str, Any]) -> Iterator[str]:
    if expect.stdout_number is None:
        return
    got, (low, high) = stream(answer, "stdout").strip(), expect.stdout_number
    if not got.isdigit() or not low <= int(got) <= high:
        yield f"stdout is {got[:SHOWN]!r}, not a number within {expect.stdout_number}"


def _files(expect: Expect, answer: dict[str, Any]) -> Iterator[str]:
    files, errors = answer.get("files", {}), answer.get("file_errors", {})
    if "files" in answer and set(files) != set(expect.files):
        yield f"files are {sorted(files)}, not {sorted(expect.files)}"
    for name, wanted in expect.files.items():
        if name in files and (got := _content(files[name])) != wanted:
            yield f"file {name} is {got[:SHOWN]!r} ({len(got)} bytes)"
    if "file_errors" in answer and set(errors) != set(expect.file_errors):
        yield f"file_errors are {errors}, not for {sorted(expect.file_errors)}"
    for name, right in expect.file_errors.items():
        if name in errors and errors[name] not in right:
            yield f"file_errors[{name}] is {errors[name]!r}, not one of {right}"


def _content(content: dict[str, str]) -> bytes:
    if content.get("text") is not None:
        return content["text"].encode()
    return base64.b64decode(content["base64"], validate=True)
