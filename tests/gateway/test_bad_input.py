"""Whatever a client sends, it is told what was wrong, and nothing is started."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from sandboxd.queue import Queue

RUN: dict[str, Any] = {"language": "python", "source": "1"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True)
async def _nothing_is_started(queue: Queue, api: httpx.AsyncClient) -> Any:
    yield
    assert (await queue.stats()).submitted == 0


def check(answer: httpx.Response, status: int, code: str, field: str | None = None) -> None:
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    assert body.get("field") == field
    assert body["title"] and body["detail"] and body["type"].endswith(code)
    assert body["retryable"] is False


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"{]", b'{"language": "python", "source": "1"} trailing', b"\xef\xbb\xbf{}",
        b'{"source": NaN}', b'{"source": "\xff\xfe"}', b'{"source": "\\ud800"}', b"\x00",
        b'{"source": "\\ud83d\\u0041"}', b'{"limits": {"cpu_time": Infinity}}',
    ],
)  # fmt: skip
async def test_malformed_json(api: httpx.AsyncClient, body: bytes) -> None:
    check(await api.post("/v1/runs", content=body, headers=JSON), 400, "malformed_body")


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"language": "cobol"}, "unknown_language", "language"),
        ({"language": "A B"}, "invalid_request", "language"),
        ({"language": None}, "invalid_request", "language"),
        ({"template": "default"}, "invalid_request", "template"),
        ({"bogus": 1}, "invalid_request", "bogus"),
        ({"limits": {"bogus": 1}}, "invalid_request", "limits.bogus"),
        ({"limits": {"memory": "1G"}}, "invalid_request", "limits.memory"),
        ({"limits": {"memory": -1}}, "invalid_request", "limits.memory"),
        ({"limits": {"memory": 1 << 100}}, "invalid_request", "limits.memory"),
        ({"limits": {"cpu_time": 0}}, "invalid_request", "limits.cpu_time"),
        ({"limits": {"memory": 2 << 30}}, "limit_above_maximum", "limits.memory"),
        ({"limits": {"wall_time": 121}}, "limit_above_maximum", "limits.wall_time"),
        ({"compile_args": ["-O2"]}, "invalid_request", "compile_args"),
        ({"compile_limits": {"pids": 9}}, "invalid_request", "compile_limits"),
        ({"source": None}, "invalid_request", "source"),
        ({"command": ["ls"]}, "invalid_request", "command"),
        ({"files": {"main.py": {"text": ""}}}, "invalid_request", "files.main.py"),
        ({"files": {"../x": {"text": ""}}}, "invalid_request", "files.../x"),
        ({"files": {"/etc/x": {"text": ""}}}, "invalid_request", "files./etc/x"),
        ({"files": {"a\0b": {"text": ""}}}, "invalid_request", "files.a\0b"),
        ({"files": {"": {"text": ""}}}, "invalid_request", "files"),
        ({"files": {"a//b": {"text": ""}}}, "invalid_request", "files.a//b"),
        ({"files": {"x" * 5000: {"text": ""}}}, "invalid_request", "files"),
        ({"files": {"x" * 256: {"text": ""}}}, "invalid_request", "files." + "x" * 256),
        ({"files": {"é" * 520: {"text": ""}}}, "invalid_request", "files." + "é" * 520),
        ({"files": {"a": {"text": ""}, "a/b": {"text": ""}}}, "invalid_request", "files.a/b"),
        ({"files": {"main.py/b": {"text": ""}}}, "invalid_request", "files.main.py/b"),
        ({"files": {"a": {"base64": "!!"}}}, "invalid_request", "files.a"),
        ({"files": {"a": {"base64": "YQ==", "text": "a"}}}, "invalid_request", "files.a"),
        ({"files": {"a": {}}}, "invalid_request", "files.a"),
        ({"files": {"a": {"text": 1}}}, "invalid_request", "files.*.text"),
        ({"files": {f"f{n}": {"text": ""} for n in range(1001)}}, "invalid_request", "files"),
        ({"files": {"a": {"text": "x" * 9000}}, "limits": {"disk": 8192}}, "invalid_request",
         "files"),
        ({"source": "x" * 9000, "limits": {"memory": 8192}}, "invalid_request", "source"),
        ({"collect": ["../x"]}, "invalid_request", "collect.0"),
        ({"collect": ["a", ""]}, "invalid_request", "collect.1"),
        ({"args": ["a\0"]}, "invalid_request", "args.0"),
        ({"args": [1]}, "invalid_request", "args.0"),
        ({"args": ["é" * 100_000]}, "invalid_request", "args.0"),
        ({"args": ["x" * 100_000, "y" * 100_000], "limits": {"stack": 65536}}, "invalid_request",
         "args"),
        ({"env": {"A=B": "1"}}, "invalid_request", "env"),
        ({"env": {"1A": "1"}}, "invalid_request", "env"),
        ({"env": {"A": "1\0"}}, "invalid_request", "env.A"),
        ({"stdin": {"base64": "!"}}, "invalid_request", "stdin"),
        ({"stdin": "x", "interactive": True}, "invalid_request", "stdin"),
        ({"network": "host"}, "invalid_request", "network"),
        ({"retry": "always"}, "invalid_request", "retry"),
    ],
)  # fmt: skip
async def test_invalid_request_names_the_field(
    api: httpx.AsyncClient, change: dict[str, Any], code: str, field: str
) -> None:
    check(await api.post("/v1/runs", json=RUN | change), 422, code, field)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"template": "nope", "command": ["ls"]}, "template"),
        ({"template": "default"}, "command"),
        ({"template": "default", "command": []}, "command"),
        ({"template": "default", "command": [""]}, "command.0"),
        ({"template": "default", "command": ["ls"], "source": "x"}, "source"),
        ({"template": "default", "command": ["ls"], "compile_args": ["x"]}, "compile_args"),
        ([], None),
        ("x", None),
    ],
)
async def test_invalid_command(api: httpx.AsyncClient, body: Any, field: str | None) -> None:
    answer = await api.post("/v1/runs", json=body)
    assert answer.status_code == 422
    assert answer.json().get("field") == field


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {},
        JSON | {"Content-Encoding": "gzip"},
    ],
)
async def test_only_plain_json_is_taken(api: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await api.post("/v1/runs", content=json.dumps(RUN), headers=headers)
    check(answer, 415, "unsupported_media_type")


async def test_announced_body_above_the_cap_is_refused_before_it_is_sent(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 104857600\r\n\r\n"
    )
    assert (await reader.readline()).split()[1] == b"413"
    writer.close()


async def test_body_that_grows_above_the_cap_is_refused_while_it_comes(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    for _ in range(18):
        writer.write(chunk)
        await writer.drain()
    # The body never ends; the answer is there all the same.
    assert (await reader.readline()).split()[1] == b"413"
    writer.close()


async def test_hundred_megabytes_of_source_get_an_answer(wire: httpx.AsyncClient) -> None:
    body = b'{"language": "python", "source": "' + b"x" * (100 << 20) + b'"}'
    check(await wire.post("/v1/runs", content=body, headers=JSON), 413, "body_too_large")


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\xe9"])
async def test_bad_idempotency_key(api: httpx.AsyncClient, key: str) -> None:
    answer = await api.post(
        "/v1/runs", json=RUN, headers={"Idempotency-Key": key.encode("latin-1")}
    )
    check(answer, 422, "invalid_request", "Idempotency-Key")


@pytest.mark.parametrize("run", ["x", "run_" + "a" * 26, "run_" + "a" * 27, "run_%00", "..%2f.."])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_unknown_run(api: httpx.AsyncClient, run: str, method: str) -> None:
    check(await api.request(method, f"/v1/runs/{run}"), 404, "not_found")


async def test_unknown_path_and_method(api: httpx.AsyncClient) -> None:
    check(await api.get("/v2"), 404, "not_found")
    check(await api.get("/v1/languages/"), 404, "not_found")
    answer = await api.put("/v1/runs/x")
    check(answer, 405, "method_not_allowed")
    assert {"GET", "DELETE"} <= set(answer.headers["allow"].split(", "))
    check(await api.get("/v1/runs"), 405, "method_not_allowed")


async def test_request_under_a_foreign_name_is_refused_without_keys(
    api: httpx.AsyncClient,
) -> None:
    answer = await api.post("/v1/runs", json=RUN, headers={"Host": "evil.example"})
    check(answer, 403, "forbidden", "Host")
