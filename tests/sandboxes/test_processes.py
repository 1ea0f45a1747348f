"""Commands in an open sandbox: to their end, streamed, in the background, on a terminal."""

import base64
import json
import time
from typing import Any

import pytest

from tests.sandboxes.conftest import WAIT, Box

pytestmark = [pytest.mark.root, pytest.mark.service]


def documents(box: Box, accept: str, **body: Any) -> list[dict[str, Any]]:
    with box.tenant.http.stream(
        "POST", f"{box.path}/exec", json=body, headers={"Accept": accept}
    ) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == accept
        lines = [line.removeprefix("data: ") for line in answer.iter_lines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_a_command_is_run_to_its_end(box: Box) -> None:
    result = box.run("sh", "-c", "cat; echo $A $PWD; echo err >&2; exit 3", input="in ",
                     env={"A": "1"}, cwd="/tmp")  # fmt: skip
    assert (result["stdout"], result["stderr"]) == ("in 1 /tmp\n", "err\n")
    process = result["process"]
    assert (process["exit_code"], process["state"], process["signal"]) == (3, "exited", None)
    assert process["cpu_time"] > 0 and process["peak_memory"] > 100_000


def test_what_is_no_text_is_base64(box: Box) -> None:
    result = box.run("printf", r"\377\n")
    assert result["encoding"] == "base64"
    assert base64.b64decode(result["stdout"]) == b"\xff\n"


def test_the_newest_output_is_kept(box: Box) -> None:
    result = box.run("seq", "100000", keep_output=10)
    assert (result["stdout"], result["stdout_truncated"]) == ("99\n100000\n", True)
    assert not result["stderr_truncated"]


def test_large_input_goes_in(box: Box) -> None:
    assert box.run("wc", "-c", input="x" * (5 << 20))["stdout"] == f"{5 << 20}\n"


def test_a_deadline_kills_and_says_so(box: Box) -> None:
    process = box.run("sleep", "60", timeout=0.3)["process"]
    assert (process["timed_out"], process["signal"]) == (True, "SIGKILL")


@pytest.mark.parametrize(
    ("command", "more", "error"),
    [(["no-such"], {}, "not_found"), (["/etc/passwd"], {}, "denied"),
     (["true"], {"cwd": "/nowhere"}, "bad_cwd")],
)  # fmt: skip
def test_what_cannot_start_is_a_result(
    box: Box, command: list[str], more: dict[str, str], error: str
) -> None:
    process = box.run(*command, **more)["process"]
    assert process["error"] == error and process["exit_code"] != 0


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/event-stream"])
def test_streams_keep_the_order_and_part_the_streams(box: Box, accept: str) -> None:
    script = "echo a; sleep 0.1; echo b >&2; sleep 0.1; cat"
    found = documents(box, accept, command=["sh", "-c", script], input="c")
    assert [each["type"] for each in found] == ["started", "stdout", "stderr", "stdout", "exit"]
    assert [each.get("text") for each in found[1:-1]] == ["a\n", "b\n", "c"]
    assert found[-1]["process"]["exit_code"] == 0


def test_a_client_that_leaves_ends_what_it_waits_for(box: Box) -> None:
    for accept in ("application/json", "application/x-ndjson"):
        with pytest.raises(Exception, match="timed out"):
            box.ask("POST", "/exec", json={"command": ["sleep", "77"], "tag": accept},
                    headers={"Accept": accept}, timeout=0.5)  # fmt: skip
        deadline = time.monotonic() + WAIT
        while True:
            found = [p for p in box.ok("GET", "/processes")["processes"] if p["tag"] == accept]
            if found and found[0]["state"] == "exited":
                break
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        assert found[0]["signal"] == "SIGKILL"


def test_a_background_process_is_listed_fed_signalled_and_read_again(box: Box) -> None:
    name = box.start("sh", "-c", "echo up; read x; echo got $x; sleep 60", stdin=True, tag="bg")
    assert name in [each["id"] for each in box.ok("GET", "/processes")["processes"]]
    path = f"/processes/{name}"
    box.ok("POST", f"{path}/stdin", json={"data": "it\n"})
    assert box.ok("GET", f"{path}?wait=0")["state"] == "running"
    box.ok("POST", f"{path}/signal", json={"signal": "SIGTERM"})
    ended = box.ok("GET", f"{path}?wait=10")
    assert (ended["state"], ended["signal"]) == ("exited", "SIGTERM")
    lines = [json.loads(x) for x in box.ok("GET", f"{path}/output").splitlines()]
    assert "".join(x.get("text", "") for x in lines) == "up\ngot it\n"
    assert box.code("GET", "/processes/prc_" + "a" * 26) == "not_found"


def test_output_since_then_is_there_for_who_attaches_late(box: Box) -> None:
    name = box.start("sh", "-c", "seq 300000; exec sleep 60", keep_output=1000)
    deadline = time.monotonic() + WAIT
    while box.ok("GET", f"/processes/{name}")["stdout_bytes"] < 1_988_895:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with box.attach(name) as stream:
        stream.until(b"300000\n")
        assert stream.texts[0]["type"] == "started"
        assert stream.texts[0]["stdout_dropped"] == 1_988_895 - len(stream.stdout) > 0
    with box.attach(name, "?history=false") as stream:
        stream.tell(type="signal", signal=9)
        assert stream.to_end()["process"]["signal"] == "SIGKILL"
        assert stream.stdout == b""


def test_a_socket_carries_both_ways(box: Box) -> None:
    with box.exec_socket("sh", "-c", "cat; echo end >&2", stdin=True) as stream:
        stream.say(b"one ")
        stream.until(b"one ")
        stream.say(b"two")
        stream.tell(type="stdin_eof")
        last = stream.to_end()
    assert (stream.stdout, stream.stderr) == (b"one two", b"end\n")
    assert (last["type"], last["process"]["exit_code"], stream.closed) == ("exit", 0, 1000)


def test_a_process_outlives_its_socket_unless_it_is_told_not_to(box: Box) -> None:
    names = {}
    for fate in ("keep", "kill"):
        with box.exec_socket("sleep", "60", query=f"?on_disconnect={fate}") as stream:
            stream.step()
            names[fate] = stream.texts[0]["process"]["id"]
    assert box.ok("GET", f"/processes/{names['kill']}?wait=10")["signal"] == "SIGKILL"
    assert box.ok("GET", f"/processes/{names['keep']}")["state"] == "running"
    box.ok("POST", f"/processes/{names['keep']}/signal", json={"signal": 9})


def test_a_terminal_has_a_size_that_changes_and_several_viewers(box: Box) -> None:
    size = {"rows": 30, "cols": 100}
    with box.exec_socket("/bin/sh", pty=size, stdin=True) as one:
        one.say(b"stty size; echo do''ne\n")
        one.until(b"done")
        assert b"30 100" in one.stdout
        with box.attach(one.texts[0]["process"]["id"]) as two:
            two.until(b"30 100")
            two.tell(type="resize", rows=11, cols=22)
            two.say(b"stty size; echo s''een\n")
            for each in (one, two):
                each.until(b"seen")
                assert b"11 22" in each.stdout
            two.say(b"exit 5\n")
            assert two.to_end()["process"]["exit_code"] == 5
        assert one.to_end()["process"]["exit_code"] == 5


@pytest.mark.parametrize(
    "message", ["not json", '{"type":"explode"}', '{"type":"resize","rows":0,"cols":1}',
                '{"type":"signal","signal":99}', '{"type":"signal","signal":"SIGNONE"}', b"\x07data"],
)  # fmt: skip
def test_a_message_that_is_none_ends_the_stream_not_the_process(box: Box, message: Any) -> None:
    with box.exec_socket("sleep", "60") as stream:
        stream.step()
        stream.socket.send(message)
        last = stream.to_end()
    name = stream.texts[0]["process"]["id"]
    assert (last["type"], last["problem"]["code"]) == ("error", "invalid_request")
    assert stream.closed == 1008
    assert box.ok("GET", f"/processes/{name}")["state"] == "running"
    box.ok("POST", f"/processes/{name}/signal", json={"signal": "KILL"})


@pytest.mark.parametrize(
    ("body", "field"),
    [({"command": []}, "command"), ({"command": [""]}, "command.0"),
     ({"command": ["a\0b"]}, "command.0"), ({"command": ["x"], "cwd": "relative"}, "cwd"),
     ({"command": ["x"], "env": {"1": "2"}}, "env"), ({"command": ["x"], "user": "eve"}, "user"),
     ({"command": ["x"], "input": {"base64": "%"}}, "input"),
     ({"command": ["x"], "shell": True}, "shell")],
)  # fmt: skip
def test_a_command_that_makes_no_sense_names_its_field(
    box: Box, body: dict[str, Any], field: str
) -> None:
    for rest in ("/exec", "/processes"):
        answer = box.ask("POST", rest, json=body)
        assert (answer.status_code, answer.json().get("field")) == (422, field), answer.text
