"""Judge0's callbacks, repeated runs, special ids, batches and statistics, by their bytes."""

import base64
import io
import json
import socket
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.service.instance import running

PYTHON, PLAIN_TEXT, EXECUTABLE, MULTI_FILE = 71, 43, 44, 89


@pytest.fixture
def judge0(service):
    with httpx.Client(base_url=f"{service.url}/compat/judge0", timeout=60) as client:
        yield client


def run(client, **fields):
    answer = client.post("/submissions?wait=true&fields=*", json={"language_id": PYTHON, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_several_runs_are_averaged_and_stop_at_the_first_that_fails(judge0):
    source = "import sys\nprint(sys.stdin.read()[::-1])"
    good = run(judge0, source_code=source, stdin="abc", expected_output="cba", number_of_runs=3)
    assert (good["status"]["id"], good["stdout"], good["number_of_runs"]) == (3, "cba\n", 3)
    assert float(good["time"]) > 0
    assert good["memory"] > 1000
    assert good["exit_code"] == 0
    wrong = run(judge0, source_code=source, stdin="x", expected_output="y", number_of_runs=3)
    assert (wrong["status"]["id"], wrong["stdout"]) == (4, "x\n")
    late = run(
        judge0, source_code="while True: pass", number_of_runs=20, cpu_time_limit=0.3,
        wall_time_limit=5,
    )  # fmt: skip
    assert late["status"]["id"] == 5
    assert 0.25 < float(late["time"]) < 0.6
    broken = run(judge0, language_id=50, source_code="int main( {", number_of_runs=2)
    assert broken["status"]["id"] == 6
    assert "error" in broken["compile_output"]
    for number, text in ((21, "less than or equal to 20"), (-1, "greater than or equal to 1")):
        answer = judge0.post(
            "/submissions",
            json={"language_id": PYTHON, "source_code": "1", "number_of_runs": number},
        )
        assert (answer.status_code, answer.json()) == (
            422, {"number_of_runs": [f"must be {text}"]},
        )  # fmt: skip


def test_plain_text_and_executables(judge0):
    plain = run(
        judge0, language_id=PLAIN_TEXT, source_code="just text", expected_output="just text"
    )
    assert (plain["status"]["id"], plain["stdout"]) == (3, "just text")
    program = Path("/bin/echo").resolve().read_bytes()
    body = {
        "language_id": EXECUTABLE, "source_code": base64.b64encode(program).decode(),
        "command_line_arguments": "one 'two three'",
    }  # fmt: skip
    answer = judge0.post("/submissions?wait=true&base64_encoded=true", json=body).json()
    assert answer["status"]["id"] == 3, answer
    assert base64.b64decode(answer["stdout"]) == b"one two three\n"
    bad = run(judge0, language_id=EXECUTABLE, source_code="\x00\x01 no program")
    assert bad["status"]["id"] == 11
    answer = judge0.post(
        "/submissions", json={"language_id": EXECUTABLE, "source_code": "x", "number_of_runs": 2}
    )
    assert answer.json() == {"number_of_runs": ["must be equal to 1"]}


def zipped(**files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/").replace("_c", ".c").replace("_h", ".h"), text)
    return base64.b64encode(data.getvalue()).decode()


def test_a_program_of_several_files_compiles_and_runs_as_its_scripts_say(judge0):
    files = {
        "main_c": '#include <stdio.h>\n#include "sub/n.h"\nint main(){printf("%d\\n",N);}',
        "sub__n_h": "#define N 42\n",
        "data": "old\n",
        "compile": "gcc main.c -o main && echo new >data\n",
        "run": "./main && cat data && cat sub/n.h && cat\n",
    }
    good = run(judge0, language_id=MULTI_FILE, additional_files=zipped(**files), stdin="in")
    assert (good["status"]["id"], good["stdout"]) == (3, "42\nnew\n#define N 42\nin"), good
    files["compile"] = "gcc nothing.c"
    bad = run(judge0, language_id=MULTI_FILE, additional_files=zipped(**files))
    assert bad["status"]["id"] == 6
    assert "nothing.c" in bad["compile_output"]
    plain = run(judge0, language_id=MULTI_FILE, additional_files=zipped(run="echo alone"))
    assert plain["stdout"] == "alone\n"
    for content, text in (("", "can't be blank"), (zipped(x="y"), "there is no file run in it")):
        body = {"language_id": MULTI_FILE, "additional_files": content}
        assert judge0.post("/submissions", json=body).json() == {"additional_files": [text]}


def test_every_id_is_there_or_reported_as_absent(judge0):
    here = {x["id"] for x in judge0.get("/languages").json()}
    every = judge0.get("/languages/all").json()
    assert {x["id"] for x in every} == set(range(43, 90))
    assert {x["id"] for x in every if not x["is_archived"]} == here
    assert {PLAIN_TEXT, EXECUTABLE, PYTHON, MULTI_FILE, 46, 50, 54} <= here
    assert {77, 70} & here == set()
    for number in range(43, 90):
        one = judge0.get(f"/languages/{number}").json()
        assert one["is_archived"] is (number not in here)
        if number in here:
            assert one["run_cmd"]
            assert one["source_file"]
        else:
            body = {"language_id": number, "source_code": "x"}
            answer = judge0.post("/submissions", json=body)
            assert answer.json() == {"language_id": [f"language with id {number} doesn't exist"]}
    assert judge0.get("/languages/42").status_code == 404


def test_batches_and_their_edges(judge0):
    def batch(body):
        return judge0.post("/submissions/batch", json=body)

    good = {"language_id": PYTHON, "source_code": "print(1)"}
    for body in ({"submissions": []}, {}, [], {"submissions": "x"}):
        assert batch(body).json() == {"error": "there should be at least one submission in a batch"}
    large = batch({"submissions": [good] * 21})
    assert large.status_code == 400
    assert "less than or equal to 20" in large.json()["error"]
    mixed = batch({"submissions": [good, {"language_id": 1, "source_code": "x"}, 7, good]})
    assert mixed.status_code == 201
    first, unknown, nothing, last = mixed.json()
    assert unknown == {"language_id": ["language with id 1 doesn't exist"]}
    assert nothing == {"language_id": ["can't be blank"]}
    assert first["token"] != last["token"]
    bad = batch({"submissions": [{}]})
    assert (bad.status_code, bad.json()) == (
        422, [{"language_id": ["can't be blank"], "source_code": ["can't be blank"]}],
    )  # fmt: skip
    tokens = f"{first['token']},nonsense, {last['token']}"
    found = judge0.get("/submissions/batch", params={"tokens": tokens, "fields": "token"}).json()
    assert found["submissions"] == [first, None, last]
    many = judge0.get("/submissions/batch", params={"tokens": ",".join(["x"] * 21)})
    assert many.status_code == 400


def test_statistics_workers_and_configuration(judge0):
    before = judge0.get("/statistics").json()
    for _ in range(2):
        run(judge0, source_code="print(1)")
    run(judge0, source_code="print(1)", expected_output="2")
    after = judge0.get("/statistics").json()
    assert set(after) == {
        "created_at", "cached_until", "submissions", "languages", "statuses", "database",
    }  # fmt: skip

    def statuses(statistics):
        return {x["status"]["id"]: x["count"] for x in statistics["statuses"]}

    ended = {
        status: count - statuses(before).get(status, 0) for status, count in statuses(after).items()
    }
    # Submissions of other tests may end meanwhile.
    assert ended[3] >= 2 and ended[4] >= 1
    assert {"id": 4, "name": "Wrong Answer"} in [x["status"] for x in after["statuses"]]

    def python(statistics):
        found = {x["language"]["id"]: x["count"] for x in statistics["languages"]}
        return found.get(PYTHON, 0)

    assert python(after) == python(before) + 3
    for name in ("total", "today"):
        assert after["submissions"][name] == before["submissions"][name] + 3
    assert sum(after["submissions"]["last_30_days"].values()) == after["submissions"]["total"]
    [worker] = judge0.get("/workers").json()
    assert worker["queue"] == "default"
    assert worker["available"] == worker["idle"] + worker["working"] >= 1
    config = judge0.get("/config_info").json()
    assert (config["enable_callbacks"], config["max_number_of_runs"]) == (True, 20)
    assert (config["callbacks_max_tries"], config["callbacks_timeout"]) == (3, 5.0)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/x", "http://10.0.0.1/", "ftp://example.com/", "http://[::1]:80/", "x"]
)
def test_callbacks_go_to_public_addresses_only(judge0, url):
    body = {"language_id": PYTHON, "source_code": "print(1)", "callback_url": url}
    answer = judge0.post("/submissions", json=body)
    assert answer.status_code == 422
    assert list(answer.json()) == ["callback_url"]


class Receiver:
    """Breaks the first connection off, then answers 500, which counts as delivered."""

    def __init__(self):
        self.got, self.tried, self.done = [], 0, threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.tried += 1
                if receiver.tried == 1:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                receiver.got.append((dict(self.headers), json.loads(body)))
                self.send_response(500)
                self.end_headers()
                if len(receiver.got) == 2:
                    receiver.done.set()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def test_results_are_put_to_the_callback_as_judge0_does():
    receiver = Receiver()
    try:
        with (
            running("judge.callback_private=true") as service,
            httpx.Client(base_url=f"{service.url}/compat/judge0", timeout=60) as judge0,
        ):
            bodies = [
                {"source_code": "print('once')", "stdin": ""},
                {"source_code": "print('often')", "number_of_runs": 2},
            ]
            tokens = {
                judge0.post(
                    "/submissions",
                    json={"language_id": PYTHON, "callback_url": receiver.url, **body},
                ).json()["token"]
                for body in bodies
            }
            assert receiver.done.wait(60)
            shown = {
                token: judge0.get(f"/submissions/{token}?base64_encoded=true").json()
                for token in tokens
            }
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()
    assert {body["token"]: body for _, body in receiver.got} == shown
    assert {base64.b64decode(body["stdout"]) for _, body in receiver.got} == {b"once\n", b"often\n"}
    headers, _ = receiver.got[0]
    assert headers["content-type"] == "application/json"
    assert not any(name.lower().startswith("webhook") for name in headers)
    assert (len(receiver.got), receiver.tried) == (2, 3)
