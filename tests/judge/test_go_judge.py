"""go-judge's pipes, streams, sockets and metrics, by their bytes."""

import hashlib
import json
import os
import tempfile
import time

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.patience import PATIENCE
from tests.service.instance import running

SECOND = 1_000_000_000
OUT = [None, {"name": "stdout", "max": 4096}, {"name": "stderr", "max": 4096}]


def command(script, files, **fields):
    return {
        "args": ["/bin/sh", "-c", script], "files": files, "cpuLimit": SECOND,
        "clockLimit": 10 * SECOND, "memoryLimit": 64 << 20, "procLimit": 8, **fields,
    }  # fmt: skip


def joined(writer, reader, **fields):
    return {"in": {"index": writer, "fd": 1}, "out": {"index": reader, "fd": 0}, **fields}


@pytest.fixture
def go(service):
    with httpx.Client(base_url=f"{service.url}/compat/go_judge", timeout=60) as client:
        yield client


def test_a_solution_and_its_interactor_talk_through_pipes(go):
    solution = command("read n; echo $((n * 2)); read word; test $word = right", [])
    interactor = command(
        "echo 21; read answer; echo right; test $answer = 42; echo judged >&2",
        [None, None, {"name": "stderr", "max": 100}],
    )
    results = go.post("/run", json={
        "cmd": [solution, interactor],
        "pipeMapping": [joined(0, 1), joined(1, 0, proxy=True, name="said", max=4)],
    }).json()  # fmt: skip
    assert [x["status"] for x in results] == ["Accepted", "Accepted"], results
    assert results[1]["files"] == {"stderr": "judged\n", "said": "21\nr"}
    assert "files" not in results[0]
    assert all(x["time"] > 0 and x["memory"] > 0 for x in results)


def test_each_of_the_joined_commands_has_its_own_end(go):
    """The writer of a plain pipe hears that its reader has left, that of a proxied one does not."""
    writer = command("yes | head -c 1000000; echo done >&2", [None, None, OUT[2]])
    reader = command("head -c 1 >/dev/null; exit 3", [])
    for proxied, expected in ((False, ("Signalled", 13)), (True, ("Accepted", 0))):
        # The shell must be the one that is hit, or it would tell of its child's end as its own.
        script = {"args": ["/usr/bin/head", "-c", "1000000", "/dev/zero"]}
        found = go.post("/run", json={
            "cmd": [{**writer, **script}, reader], "pipeMapping": [joined(0, 1, proxy=proxied)],
        }).json()  # fmt: skip
        assert (found[0]["status"], found[0]["exitStatus"]) == expected, found
        assert (found[1]["status"], found[1]["exitStatus"]) == ("Nonzero Exit Status", 3)


@pytest.mark.parametrize("given", [[], ["A=1"], ["PATH=/bin", "LANG=x"]])
def test_a_command_finds_the_variables_that_it_was_given_and_no_others(go, given):
    show = {**command("", OUT), "args": ["/usr/bin/env"], "env": given}
    alone = go.post("/run", json={"cmd": [show]}).json()
    quiet = {**command("", [None]), "args": ["/usr/bin/true"]}
    joined_to = [{**show, "files": [None, None, OUT[2]]}, quiet]
    pipe = joined(0, 1, proxy=True, name="stdout", max=4096)
    together = go.post("/run", json={"cmd": joined_to, "pipeMapping": [pipe]}).json()
    for found in (alone[0], together[0]):
        assert sorted(found["files"]["stdout"].splitlines()) == sorted(given), found


def test_what_is_written_to_a_reader_that_has_ended_is_seen_all_the_same(go):
    """As go-judge's own proxy keeps it."""
    writer = command("echo early; sleep 0.3; echo late", [None, None, OUT[2]])
    reader = {**command("", [None]), "args": ["/usr/bin/true"]}
    pipe = joined(0, 1, proxy=True, name="stdout", max=8)
    found = go.post("/run", json={"cmd": [writer, reader], "pipeMapping": [pipe]}).json()
    assert [x["status"] for x in found] == ["Accepted"] * 2
    assert found[0]["files"]["stdout"] == "early\nla", "as much as it is to keep"


def test_two_that_wait_for_each_other_end_by_their_own_clocks(go):
    wait = command("read x", [], clockLimit=SECOND // 2)
    patient = command("read x; exit 7", [], clockLimit=20 * SECOND)
    found = go.post("/run", json={
        "cmd": [wait, patient], "pipeMapping": [joined(0, 1), joined(1, 0)],
    }).json()  # fmt: skip
    assert [x["status"] for x in found] == ["Time Limit Exceeded", "Nonzero Exit Status"]
    assert found[1]["exitStatus"] == 7


@pytest.mark.parametrize(
    ("mapping", "status", "text"),
    [
        ([joined(0, 5)], 500, "pipe index out of range 5"),
        ([joined(0, 1), joined(0, 1)], 400, "a stream is in two pipes"),
        ([{"in": {"index": 0, "fd": 7}, "out": {"index": 1, "fd": 0}}], 400,
         "pipeMapping: in: only descriptor 1 can be"),
        ([{"in": 3}], 400, "pipeMapping: in: an object is required"),
        ({"in": 3}, 400, "pipeMapping: a list is required"),
    ],
)  # fmt: skip
def test_pipes_that_make_no_sense(go, mapping, status, text):
    body = {"cmd": [command("true", [])] * 2, "pipeMapping": mapping}
    answer = go.post("/run", json=body)
    assert (answer.status_code, answer.json()) == (status, text)


def test_a_stream_that_a_pipe_takes_can_be_nothing_else(go):
    body = {"cmd": [command("true", OUT), command("true", [])], "pipeMapping": [joined(0, 1)]}
    answer = go.post("/run", json=body)
    assert (answer.status_code, answer.json()) == (500, "pipe fd have been occupied 1")


def test_collected_streams_come_back_and_large_files_do_not(go):
    script = "echo out; echo err >&2; echo 123456 >large; echo 1 >small"
    both = [None, {"name": "both", "max": 100}, {"name": "both", "max": 100}]
    body = command(script, both, copyOut=["large", "small", "no?"], copyOutMax=4)
    [found] = go.post("/run", json={"cmd": [body]}).json()
    assert found["files"] == {"both": "out\nerr\n", "small": "1\n"}
    assert found["status"] == "File Error"
    assert [(x["name"], x["type"]) for x in found["fileError"]] == [
        ("large", "CopyOutSizeExceeded")
    ]
    [found] = go.post("/run", json={"cmd": [{**body, "copyOutTruncate": True}]}).json()
    assert (found["status"], found["files"]["large"]) == ("Accepted", "1234")
    [found] = go.post(
        "/run", json={"cmd": [{**body, "copyOut": [], "copyOutCached": ["both"]}]}
    ).json()
    assert go.get(f"/file/{found['fileIds']['both']}").text == "out\nerr\n"


def stream(service):
    return connect(service.url.replace("http", "ws") + "/compat/go_judge/stream")


def talk(wire, *commands):
    wire.send(bytes([1]) + json.dumps({"requestId": "r", "cmd": commands}).encode())


def heard(wire):
    """Output by command and descriptor, and the response."""
    output = {}
    while True:
        message = wire.recv(timeout=60)
        if message[0] == 1:
            return output, json.loads(message[1:])
        assert message[0] == 2
        key = message[1] >> 4, message[1] & 15
        output[key] = output.get(key, b"") + message[2:]


LIVE = [{"streamIn": True}, {"streamOut": True}, {"streamOut": True}]


def test_streams_of_several_commands_are_told_apart(service):
    with stream(service) as wire:
        talk(
            wire,
            command("read a; echo first $a; echo err >&2", LIVE),
            command("read a; echo second $a", [{"streamIn": True}, {"streamOut": True}, OUT[2]]),
            command("echo kept; echo seen >&2", [None, OUT[1], {"streamOut": True}]),
        )
        wire.send(bytes([3, 0x10]) + b"two\n")
        wire.send(bytes([3, 0x00]) + b"one\n")
        output, response = heard(wire)
    assert output == {
        (0, 1): b"first one\n", (0, 2): b"err\n", (1, 1): b"second two\n", (2, 2): b"seen\n",
    }  # fmt: skip
    assert response["requestId"] == "r"
    assert [x["status"] for x in response["results"]] == ["Accepted"] * 3
    assert response["results"][2]["files"] == {"stdout": "kept\n"}


def test_a_large_request_an_answer_before_the_end_and_the_end_of_input(service):
    with stream(service) as wire:
        talk(wire, command(f"wc -c <data; cat # {'x' * 100_000}", LIVE,
                           copyIn={"data": {"content": "y" * 200_000}}))  # fmt: skip
        assert wire.recv(timeout=60) == bytes([2, 0x01]) + b"200000\n"
        for piece in (b"one", b"two"):
            wire.send(bytes([3, 0x00]) + piece)
            assert wire.recv(timeout=60) == bytes([2, 0x01]) + piece
        wire.send(bytes([3, 0x00]))
        assert heard(wire)[1]["results"][0]["status"] == "Accepted"


TTY = {"files": LIVE, "tty": True, "clockLimit": 60 * SECOND}


def sandboxes_end(service):
    """Those of terminals go with them."""
    deadline = time.monotonic() + 30 * PATIENCE

    def living():
        found = httpx.get(f"{service.url}/v1/sandboxes").json()["sandboxes"]
        return [each["id"] for each in found if each["state"] != "ended"]

    while living():
        assert time.monotonic() < deadline, "a terminal's sandbox lives on"
        time.sleep(0.05)


def test_a_terminal_is_talked_to_resized_and_ended_by_its_program(service):
    with stream(service) as wire:
        script = 'tty; read word; stty size; echo "got $word"; read more; exit 3'
        talk(wire, {**command(script, LIVE), **TTY})
        said = b""
        while b"pts" not in said:
            said += wire.recv(timeout=60)[2:]
        wire.send(bytes([2]) + json.dumps({"index": 0, "fd": 0, "rows": 33, "cols": 101}).encode())
        wire.send(bytes([3, 0x00]) + b"hello\n")
        while b"got" not in said:
            message = wire.recv(timeout=60)
            assert message[:2] == bytes([2, 0x01])
            said += message[2:]
        wire.send(bytes([3, 0x00]))  # the end of input, as Control-D
        output, response = heard(wire)
    said += output.get((0, 1), b"")
    # The terminal echoes what is typed, and ends lines as terminals do.
    assert said.split() == [b"/dev/pts/0", b"hello", b"33", b"101", b"got", b"hello"]
    [result] = response["results"]
    assert (result["status"], result["exitStatus"]) == ("Nonzero Exit Status", 3)
    assert result["time"] > 0 and result["memory"] > 0 and result["runTime"] > 0
    sandboxes_end(service)


@pytest.mark.parametrize(
    ("script", "fields", "status"),
    [
        ("while :; do :; done", {"cpuLimit": SECOND // 2}, "Time Limit Exceeded"),
        ("(while :; do :; done) & (while :; do :; done)", {"cpuLimit": SECOND // 2},
         "Time Limit Exceeded"),
        ("sleep 100", {"clockLimit": SECOND // 2}, "Time Limit Exceeded"),
        ("exec tail /dev/zero", {"memoryLimit": 32 << 20}, "Memory Limit Exceeded"),
        ("kill -SEGV $$", {}, "Signalled"),
    ],
)  # fmt: skip
def test_limits_hold_at_a_terminal(service, script, fields, status):
    with stream(service) as wire:
        talk(wire, {**command(script, LIVE), **TTY, "cpuLimit": 20 * SECOND, **fields})
        [result] = heard(wire)[1]["results"]
    assert result["status"] == status, result
    if "cpuLimit" in fields:
        assert 0.5 * SECOND <= result["time"] < 1.5 * SECOND
    sandboxes_end(service)


def test_a_terminal_is_cancelled_and_left(service):
    for leave in (False, True):
        with stream(service) as wire:
            talk(wire, {**command("echo up; exec sleep 100", LIVE), **TTY})
            assert b"up" in wire.recv(timeout=60)
            if not leave:
                wire.send(bytes([4]))
                [result] = heard(wire)[1]["results"]
                assert result["status"] == "Internal Error"
        sandboxes_end(service)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            {"files": [None, {"streamOut": True}]},
            "tty is only supported on a stream, with streamIn",
        ),
        ({"files": [LIVE[0], OUT[1]]}, "tty is only supported on a stream, with streamIn"),
        ({"copyIn": {"x": {"content": "y"}}}, "copyIn and copyOut are not supported with tty"),
        ({"copyOut": ["x"]}, "copyIn and copyOut are not supported with tty"),
    ],
)
def test_what_a_terminal_cannot_have_is_refused(service, go, fields, reason):
    with stream(service) as wire:
        talk(wire, {**command("true", LIVE), **TTY, **fields})
        with pytest.raises(ConnectionClosed) as closed:
            wire.recv(timeout=60)
    assert closed.value.rcvd.reason.startswith(reason)
    body = {**command("true", OUT), "tty": True}
    assert go.post("/run", json={"cmd": [body]}).status_code == 400


def test_a_stream_is_cancelled(service):
    with stream(service) as wire:
        talk(wire, command("echo up; exec sleep 100", LIVE, clockLimit=100 * SECOND))
        assert wire.recv(timeout=60)[2:] == b"up\n"
        wire.send(bytes([4]))
        [result] = heard(wire)[1]["results"]
    assert result["status"] not in ("Accepted", "Time Limit Exceeded")
    assert result["runTime"] < 60 * SECOND


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([bytes([3, 0]) + b"x"], "the first stream request must be exec request"),
        ([bytes([1]) + b"{"], "the request is not JSON"),
        ([bytes([1]) + b"{}"], "no cmd provided"),
        (["text"], "an empty or textual message"),
        ([None, bytes([3, 0x20]) + b"x"], "input does not exist: 2 0"),
        ([None, bytes([2]) + b"{}"], "resize input does not have tty"),
        ([None, bytes([2]) + b'{"rows": 0}'], "resize: Expected `int` >= 1 - at `$.rows`"),
        ([None, bytes([9]) + b"x"], "invalid type code: 9"),
    ],
)
def test_a_stream_that_makes_no_sense_is_closed(service, messages, reason):
    with stream(service) as wire:
        for message in messages:
            if message is None:
                talk(wire, command("exec sleep 100", LIVE, clockLimit=100 * SECOND))
            else:
                wire.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                wire.recv(timeout=60)
        assert closed.value.rcvd.reason == reason
    started(service, 0)


def test_requests_of_a_socket_may_be_large_and_are_cancelled(service):
    url = service.url.replace("http", "ws") + "/compat/go_judge/ws"
    with connect(url) as wire:
        source = {
            "requestId": "big",
            "cmd": [command("wc -c <x", OUT, copyIn={"x": {"content": "z" * 300_000}})],
        }
        wire.send(json.dumps(source))
        answer = json.loads(wire.recv(timeout=60))
        assert answer["results"][0]["files"]["stdout"] == "300000\n"
        slow = {
            "requestId": "slow",
            "cmd": [command("exec sleep 100", OUT, clockLimit=100 * SECOND)],
        }
        wire.send(json.dumps(slow))
        wire.send(json.dumps({"cancelRequestId": "nobody"}))
        wire.send(json.dumps({"cancelRequestId": "slow"}))
        assert json.loads(wire.recv(timeout=60)) == {
            "requestId": "slow", "results": [], "error": "cancelled",
        }  # fmt: skip
        wire.send(json.dumps({"requestId": "host", "cmd": [
            command("cat x", OUT, copyIn={"x": {"src": "/etc/shadow"}})]}))  # fmt: skip
        assert (
            json.loads(wire.recv(timeout=60))["error"] == "file (/etc/shadow) does not under ([])"
        )


def test_joined_commands_that_are_given_up_leave_nothing(service):
    """Neither by word nor by a connection that is gone."""
    url = service.url.replace("http", "ws") + "/compat/go_judge/ws"
    slow = command("exec sleep 100", [], clockLimit=100 * SECOND)
    body = {"requestId": "r", "cmd": [slow, slow], "pipeMapping": [joined(0, 1), joined(1, 0)]}
    with connect(url) as wire:
        wire.send(json.dumps(body))
        started(service, 1)
        wire.send(json.dumps({"cancelRequestId": "r"}))
        assert json.loads(wire.recv(timeout=60))["error"] == "cancelled"
        started(service, 0)
        wire.send(json.dumps(body))
        started(service, 1)
    started(service, 0)


def test_what_is_cancelled_while_it_is_submitted_is_gone(service):
    url = service.url.replace("http", "ws") + "/compat/go_judge/ws"
    slow = command("exec sleep 100", OUT, clockLimit=100 * SECOND)
    with connect(url) as wire:
        for number in range(60):
            wire.send(json.dumps({"requestId": f"r{number}", "cmd": [slow]}))
            time.sleep(number % 12 / 4000)
            wire.send(json.dumps({"cancelRequestId": f"r{number}"}))
            assert json.loads(wire.recv(timeout=60))["error"] == "cancelled"
    started(service, 0)


def started(service, count):
    """Waits until so many jobs run."""
    deadline = time.monotonic() + 30 * PATIENCE
    while time.monotonic() < deadline:
        text = httpx.get(f"{service.url}/metrics").text
        if f'sandboxd_queue_jobs{{state="started"}} {count}.0' in text:
            return
        time.sleep(0.05)
    raise AssertionError(f"not {count} jobs run")


def test_what_is_open_without_a_key_and_what_is_not():
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
        for tenant in ("acme", "other"):
            secret = f"secret of {tenant}".encode()
            keys.write(f"{tenant}:{hashlib.sha256(secret).hexdigest()}\n")
        keys.flush()
        os.chmod(keys.name, 0o644)
        with (
            running(f"gateway.keys_file={keys.name}") as service,
            httpx.Client(base_url=f"{service.url}/compat/go_judge", timeout=60) as go,
        ):
            assert go.get("/version").json()["fixSymlinkEscape"] is True
            assert "runnerConfig" in go.get("/config").json()
            for path in ("/file", "/file/NOPE", "/versions", "/metrics"):
                assert go.get(path).status_code == 401
            assert go.post("/run", json={"cmd": [command("true", [])]}).status_code == 401
            assert service_closed(service)
            acme, other = ({"Authorization": f"Bearer secret of {x}"} for x in ("acme", "other"))
            body = {"cmd": [command("exit 5", OUT, copyOutCached=["stdout"])]}
            assert go.post("/run", json=body, headers=acme).status_code == 200
            lines = go.get("/metrics", headers=acme).text.splitlines()
            # Of what the others do nothing is told.
            others = go.get("/metrics", headers=other).text
    assert 'go_judge_exec_time_seconds_count{status="Nonzero Exit Status"} 1.0' in lines
    assert 'go_judge_exec_memory_bytes_count{status="Nonzero Exit Status"} 1.0' in lines
    assert "go_judge_file_size_bytes_count 1.0" in lines
    assert "go_judge_exec_error_count 0.0" in lines
    assert "go_judge_worker_running_count 0.0" in lines
    assert "Nonzero" not in others
    assert "go_judge_file_size_bytes_count 0.0" in others.splitlines()


def test_metrics_tell_what_runs(service, go):
    def runs():
        found = go.get("/metrics").text.splitlines()
        return next(x for x in found if x.startswith("go_judge_worker_running_count"))

    with stream(service) as wire:
        talk(wire, *[command("echo up; read x", LIVE, clockLimit=100 * SECOND)] * 2)
        wire.recv(timeout=60)
        assert runs() == "go_judge_worker_running_count 2.0"
        wire.send(bytes([4]))
        heard(wire)
    assert runs() == "go_judge_worker_running_count 0.0"


def service_closed(service):
    try:
        with stream(service) as wire:
            wire.recv(timeout=10)
    except Exception as error:
        return "401" in str(error)
    return False
