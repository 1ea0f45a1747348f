"""Other services' APIs, by their own clients where there are any, and by their bytes."""

import base64
import hashlib
import json
import os
import socket
import tempfile

import httpx
import judge0
import pytest
from judge0.base_types import Status
from ultra_piston import File, PistonClient
from websockets.sync.client import connect

from tests.service.instance import running


@pytest.fixture(scope="module")
def client(service):
    client = judge0.Client(f"{service.url}/compat/judge0")
    client.retry_strategy = judge0.MaxWaitTime(60)
    yield client


def test_judge0_sdk_runs_programs_and_waits(client):
    submission = judge0.run(
        client=client, source_code="print(input()[::-1])", language=judge0.PYTHON, stdin="abc"
    )
    assert submission.status == Status.ACCEPTED
    assert submission.stdout == "cba\n"
    assert submission.time > 0
    assert submission.memory > 1000
    assert submission.exit_code == 0


def test_judge0_sdk_test_cases(client):
    submissions = judge0.run(
        client=client,
        source_code="print(sum(map(int, input().split())))",
        language=judge0.PYTHON,
        test_cases=[("1 2", "3"), ("2 2", "5"), ("7 0", "7\n")],
    )
    assert [x.status for x in submissions] == [
        Status.ACCEPTED, Status.WRONG_ANSWER, Status.ACCEPTED,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("language", "source", "status"),
    [
        (judge0.C, "int main( {", Status.COMPILATION_ERROR),
        (judge0.C, "int main(){return *(volatile int*)0;}", Status.RUNTIME_ERROR_SIGSEGV),
        (judge0.C, "#include <stdlib.h>\nint main(){abort();}", Status.RUNTIME_ERROR_SIGABRT),
        (judge0.PYTHON, "raise SystemExit(3)", Status.RUNTIME_ERROR_NZEC),
        (judge0.PYTHON, "while True: pass", Status.TIME_LIMIT_EXCEEDED),
        (judge0.PYTHON, "x = 'x' * (1 << 30)", Status.RUNTIME_ERROR_OTHER),
    ],
)
def test_judge0_statuses(client, language, source, status):
    found = judge0.run(client=client, source_code=source, language=language, cpu_time_limit=0.5)
    assert found.status == status


def test_judge0_absent_languages_are_absent(client):
    assert not client.is_language_supported(judge0.COBOL)
    everything = httpx.get(f"{client.endpoint}/languages/all").json()
    assert {x["id"]: x["is_archived"] for x in everything}[77] is True
    answer = httpx.post(
        f"{client.endpoint}/submissions", json={"language_id": 77, "source_code": "x"}
    )
    assert answer.status_code == 422
    assert answer.json() == {"language_id": ["language with id 77 doesn't exist"]}


def test_judge0_bytes(client):
    url = client.endpoint
    body = {"language_id": 71, "source_code": "import sys; sys.stdout.buffer.write(b'\\xff')"}
    answer = httpx.post(f"{url}/submissions?wait=true", json=body, timeout=30)
    assert answer.status_code == 201
    assert set(answer.json()) == {"error", "token"}
    token = answer.json()["token"]
    assert httpx.get(f"{url}/submissions/{token}").status_code == 400
    whole = httpx.get(f"{url}/submissions/{token}?base64_encoded=true").json()
    assert list(whole) == [
        "stdout", "time", "memory", "stderr", "token", "compile_output", "message", "status",
    ]  # fmt: skip
    assert whole["stdout"] == "/w==\n"
    assert whole["status"] == {"id": 3, "description": "Accepted"}
    assert whole["stderr"] is None
    every = httpx.get(f"{url}/submissions/{token}?base64_encoded=true&fields=*").json()
    assert every["language"]["id"] == 71
    assert every["created_at"].endswith("Z")
    assert httpx.get(f"{url}/submissions/{token}?fields=nope").json() == {
        "error": "invalid fields: [nope]"
    }
    assert httpx.delete(f"{url}/submissions/{token}").status_code == 200
    assert httpx.get(f"{url}/submissions/{token}").status_code == 404
    assert httpx.get(f"{url}/submissions").status_code == 403
    assert httpx.post(f"{url}/submissions", json={}).json() == {
        "language_id": ["can't be blank"], "source_code": ["can't be blank"],
    }  # fmt: skip
    assert httpx.get(f"{url}/version").text == "1.13.1"
    assert len(httpx.get(f"{url}/statuses").json()) == 14
    assert httpx.get(f"{url}/submissions/batch").status_code == 400
    batch = httpx.get(f"{url}/submissions/batch", headers={"tokens": token})
    assert batch.json() == {"submissions": [None]}


def test_piston_client(service):
    client = PistonClient(base_url=f"{service.url}/compat/piston/api/v2/")
    runtimes = client.get_runtimes()
    python = next(x for x in runtimes if x.language == "python")
    assert "py" in python.aliases
    output = client.post_execute(
        language="py",
        version=python.version,
        file=File(content="import sys\nprint(input(), sys.argv[1:])\nsys.exit(3)"),
        stdin="hi\n",
        args=["a"],
    )
    assert (output.run.stdout, output.run.code) == ("hi ['a']\n", 3)
    assert [x.language for x in client.get_packages() if x.installed]


@pytest.fixture
def piston(service):
    with httpx.Client(base_url=f"{service.url}/compat/piston/api/v2", timeout=30) as client:
        yield client


def test_piston_bytes(piston):
    def execute(**fields):
        body = {"language": "c", "version": "*", "files": [{"content": "int main(){}"}], **fields}
        return piston.post("/execute", json=body)

    good = execute().json()
    assert set(good) == {"language", "version", "compile", "run"}
    assert set(good["run"]) == {
        "stdout", "stderr", "output", "code", "signal", "message", "status", "cpu_time",
        "wall_time", "memory",
    }  # fmt: skip
    assert (good["run"]["status"], good["run"]["code"], good["run"]["signal"]) == (None, 0, None)
    bad = execute(files=[{"content": "int main( {"}]).json()
    assert bad["run"] == bad["compile"]
    assert bad["run"]["code"] == 1
    late = execute(files=[{"content": "int main(){for(;;);}"}], run_timeout=300).json()["run"]
    assert (late["status"], late["signal"], late["code"]) == ("TO", "SIGKILL", None)
    crash = execute(files=[{"content": "int main(){return *(volatile int*)0;}"}]).json()["run"]
    assert (crash["status"], crash["signal"]) == ("SG", "SIGSEGV")
    message = {
        "language is required as a string": {"language": 5},
        "version is required as a string": {"version": None},
        "files is required as an array": {"files": {}},
        "files[0].content is required as a string": {"files": [{}]},
        "nope-1 runtime is unknown": {"language": "nope", "version": "1"},
        "If specified, run_timeout must be a number": {"run_timeout": "x"},
        "run_timeout must be non-negative": {"run_timeout": -1},
        "files must include at least one utf8 encoded file": {
            "files": [{"content": "aa", "encoding": "hex"}]
        },
    }
    for text, fields in message.items():
        answer = execute(**fields)
        assert (answer.status_code, answer.json()) == (400, {"message": text})
    answer = piston.post("/execute", content=b"{}", headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["message"]) == (
        415, "requests must be of type application/json",
    )  # fmt: skip
    answer = piston.request("DELETE", "/packages", json={"language": "x", "version": "1"})
    assert answer.json() == {"message": "Requested package x-1 does not exist"}


def test_piston_socket(service):
    url = service.url.replace("http", "ws") + "/compat/piston/api/v2/connect"
    with connect(url) as wire:
        source = "name = input()\nprint('hello', name)"
        init = {
            "type": "init",
            "language": "python",
            "version": "*",
            "files": [{"content": source}],
        }
        wire.send(json.dumps(init))
        assert json.loads(wire.recv())["type"] == "runtime"
        assert json.loads(wire.recv()) == {"type": "stage", "stage": "run"}
        wire.send(json.dumps({"type": "data", "stream": "stdin", "data": "you\n"}))
        said = json.loads(wire.recv())
        assert said == {"type": "data", "stream": "stdout", "data": "hello you\n"}
        end = json.loads(wire.recv())
        assert end == {"type": "exit", "stage": "run", "code": 0, "signal": None}
        with pytest.raises(Exception, match="4999"):
            wire.recv()


def test_piston_socket_signals_and_faults(service):
    url = service.url.replace("http", "ws") + "/compat/piston/api/v2/connect"
    init = {"type": "init", "language": "python", "version": "*",
            "files": [{"content": "print(1, flush=True)\nwhile True: pass"}]}  # fmt: skip
    with connect(url) as wire:
        wire.send(json.dumps(init))
        while json.loads(wire.recv())["type"] != "data":
            pass
        wire.send(json.dumps({"type": "signal", "signal": "SIGTERM"}))
        end = json.loads(wire.recv())
        assert (end["type"], end["signal"]) == ("exit", "SIGKILL")
    for first, code in (({"type": "data"}, "4003"), ({"type": "init"}, "4002")):
        with connect(url) as wire:
            wire.send(json.dumps(first))
            with pytest.raises(Exception, match=code):
                while True:
                    wire.recv()
    with connect(url) as wire, pytest.raises(Exception, match="4001"):
        wire.recv()


@pytest.fixture
def go(service):
    with httpx.Client(base_url=f"{service.url}/compat/go_judge", timeout=30) as client:
        yield client


DOUBLE = '#include <stdio.h>\nint main(){int n;scanf("%d",&n);printf("%d",n*2);}'
COLLECT = [{"content": ""}, {"name": "stdout", "max": 10240}, {"name": "stderr", "max": 10240}]


def test_go_judge_compiles_once_and_runs(go):
    compiled = go.post("/run", json={"cmd": [{
        "args": ["/usr/bin/gcc", "a.c", "-o", "a"], "env": ["PATH=/usr/bin:/bin"], "files": COLLECT,
        "cpuLimit": 10_000_000_000, "memoryLimit": 512 << 20, "procLimit": 50,
        "copyIn": {"a.c": {"content": DOUBLE}},
        "copyOut": ["stdout", "stderr"], "copyOutCached": ["a"],
    }]}).json()  # fmt: skip
    [result] = compiled
    assert result["status"] == "Accepted", result
    assert set(result["files"]) == {"stdout", "stderr"}
    file_id = result["fileIds"]["a"]
    assert len(file_id) == 8
    assert go.get("/file").json()[file_id] == "a"
    for number in (3, 21):
        [ran] = go.post("/run", json={"cmd": [{
            "args": ["./a"], "files": [{"content": str(number)}, *COLLECT[1:]],
            "cpuLimit": 1_000_000_000, "memoryLimit": 64 << 20, "procLimit": 5,
            "copyIn": {"a": {"fileId": file_id}}, "copyOut": ["stdout"],
        }]}).json()  # fmt: skip
        assert (ran["status"], ran["exitStatus"], ran["files"]) == (
            "Accepted", 0, {"stdout": str(number * 2), "stderr": ""},
        )  # fmt: skip
        assert ran["time"] > 0
        assert ran["memory"] > 0
    assert go.delete(f"/file/{file_id}").status_code == 200
    assert go.delete(f"/file/{file_id}").status_code == 404
    assert go.get(f"/file/{file_id}").status_code == 404


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        ("exit 3", "Nonzero Exit Status", 3),
        ("kill -SEGV $$", "Signalled", 11),
        ("while :; do :; done", "Time Limit Exceeded", 9),
        ("yes", "Output Limit Exceeded", 0),
    ],
)
def test_go_judge_statuses(go, script, status, code):
    [result] = go.post("/run", json={"cmd": [{
        "args": ["/bin/sh", "-c", script], "files": COLLECT, "cpuLimit": 300_000_000,
        "clockLimit": 5_000_000_000, "memoryLimit": 64 << 20, "procLimit": 5, "copyOut": ["stdout"],
    }]}).json()  # fmt: skip
    assert (result["status"], result["exitStatus"]) == (status, code)
    if status.startswith("Output"):
        assert result["fileError"][0]["type"] == "CollectSizeExceeded"
        assert len(result["files"]["stdout"]) == 10240


def test_go_judge_files_and_refusals(go):
    file_id = go.post("/file", files={"file": ("x.txt", b"data")}).json()
    answer = go.get(f"/file/{file_id}")
    assert answer.content == b"data"
    assert "x.txt" in answer.headers["content-disposition"]
    for body, text in (
        ({}, "no cmd provided"),
        ({"cmd": [{"args": ["/bin/true"], "copyIn": {"x": {"src": "/etc/shadow"}}}]},
         "file (/etc/shadow) does not under ([])"),
        ({"cmd": [{"args": ["/bin/cat"], "copyIn": {"x": {"fileId": "NOPE"}}}]},
         "file does not exist: NOPE"),
    ):  # fmt: skip
        answer = go.post("/run", json=body)
        assert (answer.status_code, answer.json()) == (400, text)
    version = go.get("/version").json()
    assert version["fixSymlinkEscape"] is True
    assert "runnerConfig" in go.get("/config").json()


def test_go_judge_socket(service):
    url = service.url.replace("http", "ws") + "/compat/go_judge/ws"
    sleep = {"args": ["/bin/sleep", "50"], "cpuLimit": 1_000_000_000, "clockLimit": 60_000_000_000}
    with connect(url) as wire:
        wire.send(json.dumps({"requestId": "slow", "cmd": [sleep]}))
        wire.send(json.dumps({"requestId": "slow", "cmd": [sleep]}))
        assert json.loads(wire.recv())["error"] == "duplicated request id"
        wire.send(json.dumps({"cmd": []}))
        assert json.loads(wire.recv())["error"] == "empty request id"
        quick = {"args": ["/bin/echo", "hi"], "files": COLLECT, "copyOut": ["stdout"]}
        wire.send(json.dumps({"requestId": "quick", "cmd": [quick]}))
        answer = json.loads(wire.recv())
        assert (answer["requestId"], answer["results"][0]["files"]["stdout"]) == ("quick", "hi\n")


def test_sandboxfusion(service):
    url = f"{service.url}/compat/sandboxfusion/run_code"

    def run(**fields):
        return httpx.post(url, json={"language": "python", **fields}, timeout=30)

    good = run(code="print(open('a').read())\nopen('b', 'w').write('out')",
               files={"a": base64.b64encode(b"in").decode()}, fetch_files=["b"]).json()  # fmt: skip
    assert good["status"] == "Success"
    assert good["run_result"]["stdout"] == "in\n"
    assert good["run_result"]["status"] == "Finished"
    assert good["files"] == {"b": base64.b64encode(b"out").decode()}
    assert run(code="raise SystemExit(2)").json()["run_result"]["return_code"] == 2
    late = run(code="while True: pass", run_timeout=0.4).json()
    assert (late["status"], late["run_result"]["status"]) == ("Failed", "TimeLimitExceeded")
    compiled = run(code="int main( {", language="cpp").json()
    assert compiled["status"] == "Failed"
    assert compiled["compile_result"]["return_code"] == 1
    assert compiled["run_result"] is None
    assert run(code=5).status_code == 422


def test_an_adapter_on_a_listener_of_its_own_wants_a_key_where_keys_are_wanted():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # The gateway's own user has to get through, which pytest's tmp_path forbids.
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
        keys.write(f"acme:{hashlib.sha256(b'secret').hexdigest()}\n")
        keys.flush()
        os.chmod(keys.name, 0o644)
        listen = f"adapters.judge0_listen=127.0.0.1:{port}"
        with running(listen, f"gateway.keys_file={keys.name}") as service:
            url = f"http://127.0.0.1:{port}"
            assert httpx.get(f"{url}/languages").status_code == 401
            for headers in ({"X-Auth-Token": "secret"}, {"Authorization": "Bearer secret"}):
                answer = httpx.get(f"{url}/languages", headers=headers)
                assert (answer.status_code, bool(answer.json())) == (200, True)
            assert httpx.get(f"{service.url}/languages", headers=headers).status_code == 404
