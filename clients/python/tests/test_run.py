"""A run that is waited for: what goes over the wire, and what comes back."""

import base64
import dataclasses
import re
from pathlib import Path

import pytest
from sandboxd_client import Limits, Overload, RequestError, ServerError, Status, __version__
from starlette.responses import JSONResponse
from wire_service import WireService, problem, result


async def test_run_gives_the_typed_result(client, service):
    answer = await client.run(language="python", source="print(input())", stdin="hi\n")
    assert answer.ok and answer.status is Status.OK
    assert (answer.stdout, answer.stdout_bytes, answer.exit_code) == ("hi\n", b"hi\n", 0)
    assert (answer.cpu_time, answer.wall_time, answer.peak_memory) == (0.011, 0.013, 9211904)
    assert answer.isolation == ("userns", "seccomp")
    assert answer.document["node"] == "n1"
    with pytest.raises(dataclasses.FrozenInstanceError):
        answer.status = "other"


async def test_every_option_goes_out_as_the_service_reads_it(client, service):
    await client.run(
        template="default",
        command=("cat", "x"),
        args=["a"],
        env={"A": "b"},
        stdin=b"\xff",
        files={"t.txt": "text", "b.bin": b"\xff\x00", "u": "é".encode()},
        collect=["out.txt"],
        limits=Limits(cpu_time=1.5, memory=64 << 20),
        compile_limits={"wall_time": 3},
        retry="safe",
    )
    assert service.posted() == [
        {
            "template": "default",
            "command": ["cat", "x"],
            "args": ["a"],
            "env": {"A": "b"},
            "stdin": {"base64": "/w=="},
            "files": {"t.txt": {"text": "text"}, "b.bin": {"base64": "/wA="}, "u": {"text": "é"}},
            "collect": ["out.txt"],
            "limits": {"cpu_time": 1.5, "memory": 67108864},
            "compile_limits": {"wall_time": 3},
            "retry": "safe",
        }
    ]


async def test_request_carries_key_version_and_idempotency_key(client, service):
    await client.run(language="python", source="")
    await client.run(language="python", source="")
    await client.run(language="python", source="", idempotency_key="mine")
    first, second, third = service.sent("POST")
    assert first["authorization"] == "Bearer key-1"
    assert first["user-agent"].startswith(f"sandboxd-client/{__version__} python/3")
    assert re.fullmatch(r"[0-9a-f]{32}", first["idempotency-key"])
    assert first["idempotency-key"] != second["idempotency-key"]
    assert third["idempotency-key"] == "mine"


async def test_binary_output_and_files_are_exact(client, service):
    service.ending = {
        "encoding": "base64",
        "stdout": base64.b64encode(b"\xff\xfeA").decode(),
        "stderr": base64.b64encode(b"plain").decode(),
        "stdout_truncated": True,
        "files": {"a": {"text": "é"}, "b": {"base64": "AP8="}, "c": {"text": ""}},
        "file_errors": {"d": "not_found"},
    }
    answer = await client.run(language="python", source="")
    assert (answer.stdout_bytes, answer.stdout) == (b"\xff\xfeA", "\ufffd\ufffdA")
    assert answer.stderr == "plain" and answer.stdout_truncated
    assert answer.files == {"a": "é".encode(), "b": b"\x00\xff", "c": b""}
    assert answer.file_errors == {"d": "not_found"}


async def test_compile_error_is_a_result_with_the_compilers_outcome(client, service):
    compiled = result("x", status="nonzero_exit", exit_code=1, stderr="main.c:1: error")
    service.ending = {"status": "compile_error", "exit_code": None, "compile": compiled}
    answer = await client.run(language="c", source="int")
    assert not answer.ok and answer.status is Status.COMPILE_ERROR
    assert answer.compile is not None and answer.compile.stderr == "main.c:1: error"
    assert answer.compile.exit_code == 1


async def test_status_and_field_of_a_newer_service_are_kept(client, service):
    service.ending = {"status": "gpu_exceeded", "gpu_time": 1.5}
    answer = await client.run(language="python", source="")
    assert answer.status == "gpu_exceeded" and not answer.ok
    assert answer.document["gpu_time"] == 1.5


async def test_refusal_is_a_request_error_with_code_and_field(client, service):
    service.answers.append(lambda: problem(422, "limit_above_maximum", field="limits.memory"))
    with pytest.raises(RequestError) as caught:
        await client.run(language="python", source="")
    error = caught.value
    assert (error.code, error.field, error.status) == ("limit_above_maximum", "limits.memory", 422)
    assert not error.retryable and "detail of limit_above_maximum" in str(error)
    assert len(service.sent("POST")) == 1


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda: problem(500, "native_fault"), "native_fault"),
        (lambda: JSONResponse({"no": "problem"}, 502), "internal_error"),
        (lambda: JSONResponse({"status": "ok"}), "bad_answer"),
        (lambda: JSONResponse([1]), "bad_answer"),
        (lambda: JSONResponse("x", 301, {"location": "http://127.0.0.1:1/"}), "http_301"),
    ],
)
async def test_what_the_service_should_not_say_is_a_server_error(client, service, answer, code):
    service.answers.append(answer)
    with pytest.raises(ServerError) as caught:
        await client.run(language="python", source="")
    assert caught.value.code == code and not caught.value.retryable
    assert len(service.sent("POST")) == 1


async def test_overload_is_tried_again_with_the_same_idempotency_key(client, service):
    service.answers += [
        lambda: problem(429, "queue_full", retry_after=0.05),
        lambda: problem(503, "unavailable"),
    ]
    assert (await client.run(language="python", source="", stdin="x")).stdout == "x"
    keys = {headers["idempotency-key"] for headers in service.sent("POST")}
    assert len(service.sent("POST")) == 3 and len(keys) == 1


async def test_overload_is_raised_when_the_tries_are_used_up(connect, service):
    service.answers += [lambda: problem(429, "queue_full", retry_after=0.01)] * 5
    with pytest.raises(Overload) as caught:
        await connect(service.url, retries=1).run(language="python", source="")
    assert caught.value.retryable and caught.value.retry_after == 0.01
    assert caught.value.code == "queue_full" and len(service.sent("POST")) == 2


async def test_overload_beyond_the_deadline_is_raised_at_once(client, service):
    service.answers.append(lambda: problem(503, "unavailable", retry_after=60))
    with pytest.raises(Overload):
        await client.run(language="python", source="", timeout=5)
    assert len(service.sent("POST")) == 1


async def test_run_that_outlasts_one_request_is_followed_to_its_end(client, service):
    held = await client.submit(language="python", source="hold")
    accepted = service.runs[held.id].record()
    service.answers.append(lambda: JSONResponse(accepted, 202))
    service.finish(held.id, stdout="late")
    assert (await client.run(language="python", source="")).stdout == "late"


async def test_unix_socket_serves_runs_and_streams(connect, tmp_path: Path):
    with WireService(tmp_path / "s") as service:
        client = connect(service.url)
        assert (await client.run(language="python", source="", stdin="u")).stdout == "u"
        run = await client.submit(language="python", interactive=True)
        async with run.stream() as stream:
            await stream.close_stdin()
            assert (await stream.result()).stderr == "eof\n"


async def test_environment_names_service_and_key(connect, service, monkeypatch):
    monkeypatch.setenv("SANDBOXD_URL", service.url + "/")
    monkeypatch.setenv("SANDBOXD_API_KEY", "from-env")
    await connect().run(language="python", source="")
    assert service.sent("POST")[0]["authorization"] == "Bearer from-env"


async def test_languages_and_health(client, service):
    languages = await client.languages()
    assert [each.name for each in languages] == ["python", "c", "cpp", "node"]
    assert languages[0].aliases == ("py",) and languages[1].compiles
    assert languages[0].limits["wall_time"] == 30.0
    assert (await client.health()).ready
    service.ready = False
    assert not (await client.health()).ready


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"langauge": "python"}, TypeError),
        ({"language": "python", "args": "one string"}, TypeError),
        ({"language": "python", "interactive": True}, TypeError),
        ({"language": "python", "idempotency_key": "a\r\nb"}, ValueError),
    ],
)
async def test_wrong_arguments_are_refused_before_anything_is_sent(client, service, options, error):
    with pytest.raises(error):
        await client.run(**options)
    assert service.requests == []


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://", "unix:", "http://h:99999", "http://u@h", "x"]
)
def test_url_that_makes_no_sense_is_refused(connect, url):
    with pytest.raises(ValueError, match=re.escape(url)):
        connect(url)


def test_key_is_not_shown(connect):
    client = connect("http://127.0.0.1:9", "secret-key")
    core = getattr(client, "inner", client)._core
    assert "secret-key" not in repr(core.endpoint)


def test_key_that_would_split_the_header_is_refused(connect):
    with pytest.raises(ValueError, match="API key"):
        connect("http://127.0.0.1:9", "a\r\nX: y")
