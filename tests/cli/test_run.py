"""`sandboxd run` against a real service that speaks the wire format."""

import asyncio
import importlib.util
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sandboxd.cli.run import run
from sandboxd.cli.run_request import limit

_WIRE = Path(__file__).parents[2] / "clients/python/tests/wire_service.py"
_COMMAND = [sys.executable, "-c", "from sandboxd.cli.run import run; run()"]


@pytest.fixture(scope="module")
def running_service() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("cli_wire_service", _WIRE)
    assert spec is not None and spec.loader is not None
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.WireService() as running:
        yield running


@pytest.fixture
def service(running_service: Any) -> Any:
    running_service.reset()
    return running_service


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "prog.py"
    file.write_bytes(b"print(1)\r\n")
    return file


@pytest.fixture
def invoke(service: Any, program: Path) -> Callable[..., Any]:
    def call(*arguments: str, stdin: bytes = b"", file: Path = program) -> Any:
        return CliRunner().invoke(run, [str(file), "--url", service.url, *arguments], input=stdin)

    return call


@pytest.fixture
def start(service: Any, program: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def call(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | options
        command = [*_COMMAND, str(program), "--url", service.url, *arguments]
        started.append(subprocess.Popen(command, **pipes))
        return started[-1]

    yield call
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ending(service: Any, outcome: dict[str, Any], out: bytes = b"", err: bytes = b"") -> None:
    """Lets the next streams show `out` and `err` and end as `outcome` says."""

    async def play(socket: Any, run: Any) -> None:
        for channel, data in ((b"\x01", out), (b"\x02", err)):
            if data:
                await socket.send_bytes(channel + data)
        await run.finish(**outcome)
        await socket.send_text(json.dumps({"type": "exit", "result": run.result}))
        await socket.close(1000)

    service.on_stream = play


def test_stdin_output_and_exit_code_pass_through_as_bytes(start):
    process = start()
    out, err = process.communicate(b"\x00\xffhi\n", timeout=30)
    assert (out, process.returncode) == (b"\x00\xffhi\n", 0)
    assert err.splitlines() == [b"eof", b"ok: exit 0, cpu 0.011 s, wall 0.013 s, memory 8.8 MiB"]


def test_output_appears_while_the_program_runs(start):
    process = start("--quiet")
    for line in (b"one\n", b"two\n"):
        process.stdin.write(line)
        process.stdin.flush()
        assert process.stdout.readline() == line
    assert process.poll() is None
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"eof\n")


def test_terminal_input_is_forwarded_until_its_end(start):
    leader, follower = pty.openpty()
    process = start("--quiet", stdin=follower)
    os.close(follower)
    os.write(leader, b"typed\n")
    assert process.stdout.readline() == b"typed\n"
    os.write(leader, b"\x04")
    assert process.wait(timeout=30) == 0
    os.close(leader)


def test_stdin_comes_from_a_file_larger_than_all_buffers(start, tmp_path):
    data = os.urandom(12 << 20)
    (tmp_path / "in").write_bytes(data)
    process = start("--quiet", "--stdin", str(tmp_path / "in"))
    out, _ = process.communicate(timeout=30)
    assert (out, process.returncode) == (data, 0)


def test_closed_stdin_is_an_empty_one(service, program):
    command = [*_COMMAND, str(program), "--quiet", "--url", service.url]
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *command]
    process = subprocess.run(closed, capture_output=True, timeout=30, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (0, b"", b"eof\n")


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        ({"status": "nonzero_exit", "exit_code": 255}, 255),
        ({"status": "signalled", "exit_code": None, "signal": "SIGSEGV"}, 139),
        ({"status": "cpu_time_exceeded", "exit_code": None, "signal": "SIGKILL"}, 124),
        ({"status": "wall_time_exceeded", "exit_code": None}, 124),
        ({"status": "memory_exceeded", "exit_code": None, "signal": "SIGKILL"}, 137),
        ({"status": "output_exceeded", "exit_code": None}, 153),
        ({"status": "disk_exceeded", "exit_code": 1}, 122),
        ({"status": "security_violation", "exit_code": None, "signal": "SIGSYS"}, 159),
        ({"status": "compile_error", "exit_code": None}, 65),
        ({"status": "cancelled", "exit_code": None}, 130),
        ({"status": "internal_error", "exit_code": None, "reason": "node_lost"}, 70),
        ({"status": "of_the_future", "exit_code": None}, 70),
    ],
)
def test_every_end_has_its_exit_code_and_is_said(invoke, service, outcome, code):
    ending(service, outcome)
    answer = invoke()
    assert answer.exit_code == code
    assert answer.stderr.startswith(f"{outcome['status']}: ")
    assert (outcome.get("signal") or "") in answer.stderr
    assert (outcome.get("reason") or "") in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_truncation_is_said(invoke, service):
    ending(service, {"stdout_truncated": True, "status": "output_exceeded"})
    assert "stdout truncated" in invoke().stderr


def test_compile_errors_are_shown_even_when_quiet(invoke, service):
    compiled = {
        "status": "nonzero_exit", "exit_code": 1, "signal": None, "stdout": "", "stderr": "oh: no\n",
        "encoding": "utf-8", "cpu_time": 0.5, "wall_time": 0.6, "peak_memory": 1 << 20,
    }  # fmt: skip
    ending(service, {"status": "compile_error", "exit_code": None, "compile": compiled})
    assert invoke("--quiet").stderr == "oh: no\n"
    assert "compile_error: exit 1, cpu 0.500 s, wall 0.600 s, memory 1.0 MiB" in invoke().stderr


def test_every_option_reaches_the_service(invoke, service, tmp_path):
    (tmp_path / "data.bin").write_bytes(b"\xff")
    (tmp_path / "more.txt").write_text("m")
    answer = invoke(
        "--limit", "memory=64M", "--limit", "cpu_time=1.5", "--limit", "wall_time=500ms",
        "--limit", "pids=8", "--arg=-x", "--env", "A=b=c", "--compile-arg=-O2",
        "--file", f"{tmp_path}/data.bin:in/data.bin", "--file", f"{tmp_path}/more.txt",
        "--collect", "out.txt", "--output-dir", str(tmp_path / "out"), "--", "-y", "z",
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    assert service.posted() == [
        {
            "source": "print(1)\r\n",
            "language": "python",
            "interactive": True,
            "args": ["-x", "-y", "z"],
            "limits": {"memory": 67108864, "cpu_time": 1.5, "wall_time": 0.5, "pids": 8},
            "env": {"A": "b=c"},
            "compile_args": ["-O2"],
            "files": {"in/data.bin": {"base64": "/w=="}, "more.txt": {"text": "m"}},
            "collect": ["out.txt"],
        }
    ]


@pytest.mark.parametrize(
    ("name", "language"), [("a.cc", "cpp"), ("a.c", "c"), ("a.JS", "node"), ("a.py", "python")]
)
def test_language_is_told_by_the_suffix(invoke, service, tmp_path, name, language):
    (tmp_path / name).write_text("")
    assert invoke(file=tmp_path / name).exit_code == 0
    assert service.posted()[0]["language"] == language


def test_named_language_is_taken_as_it_is(invoke, service, tmp_path):
    (tmp_path / "x.unknown").write_text("")
    assert invoke("--language", "c++", file=tmp_path / "x.unknown").exit_code == 0
    assert service.posted()[0]["language"] == "c++"


def test_json_prints_the_whole_result_and_nothing_else(invoke, service):
    service.ending = {"status": "nonzero_exit", "exit_code": 3}
    answer = invoke("--json", "--collect", "x", stdin=b"given\xff")
    assert answer.exit_code == 3 and answer.stderr == ""
    assert json.loads(answer.stdout)["status"] == "nonzero_exit"
    assert service.posted()[0]["stdin"] == {"base64": "Z2l2ZW7/"}
    assert "interactive" not in service.posted()[0]


def test_collected_files_are_written_below_the_output_directory(invoke, service, tmp_path):
    files = {"d/a.txt": {"text": "A"}, "b.bin": {"base64": "/w=="}}
    ending(service, {"files": files, "file_errors": {"c": "not_found"}})
    out = tmp_path / "new" / "out"
    wanted = [word for name in ("d/a.txt", "b.bin", "c") for word in ("--collect", name)]
    answer = invoke(*wanted, "--output-dir", str(out))
    assert answer.exit_code == 0
    assert (out / "d/a.txt").read_text() == "A" and (out / "b.bin").read_bytes() == b"\xff"
    assert "not collected 'c': not_found" in answer.stderr


def test_file_that_nobody_asked_for_is_not_written(invoke, service, tmp_path):
    ending(service, {"files": {"../evil": {"text": "x"}, "other": {"text": "x"}}})
    out = tmp_path / "out"
    assert invoke("--collect", "a", "--output-dir", str(out)).exit_code == 0
    assert list(out.iterdir()) == [] and not (tmp_path / "evil").exists()


def test_name_that_leads_out_of_the_output_directory_is_refused(invoke, service, tmp_path):
    ending(service, {"files": {"../evil": {"text": "x"}}})
    answer = invoke("--collect", "../evil", "--output-dir", str(tmp_path / "out"))
    assert answer.exit_code == 73 and not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--limit", "cpus=1"], "the limits are cpu_time"),
        (["--limit", "memory=lots"], "not a value of memory"),
        (["--limit", "pids=1k"], "not a value of pids"),
        (["--limit", "pids=1.5"], "not a whole number"),
        (["--env", "A"], "NAME=VALUE"),
        (["--file", "/does/not/exist"], "No such file"),
        (["--collect", "x"], "--output-dir"),
        (["--stdin", "/does/not/exist"], "does not exist"),
        (["--url", "ftp://x"], "ftp://x"),
        (["--no-such-option"], "No such option"),
    ],
)
def test_wrong_usage_is_said_and_nothing_is_sent(invoke, service, arguments, said):
    answer = invoke(*arguments)
    assert answer.exit_code == 2 and said in answer.stderr
    assert service.posted() == []


def test_unknown_suffix_names_the_languages(invoke, tmp_path):
    (tmp_path / "a.zig").write_text("")
    answer = invoke(file=tmp_path / "a.zig")
    assert answer.exit_code == 2 and "python, c, cpp, node" in answer.stderr


def test_source_that_is_not_text_is_refused(invoke, tmp_path):
    (tmp_path / "a.py").write_bytes(b"\xff")
    assert invoke(file=tmp_path / "a.py").exit_code == 2


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [(422, "limit_above_maximum", 2), (401, "unauthorized", 77), (500, "native_fault", 70)],
)
def test_refusal_is_one_line(invoke, service, running_service, status, code, exit_code):
    problem = sys.modules["cli_wire_service"].problem
    service.answers.append(lambda: problem(status, code, field="limits.memory"))
    answer = invoke()
    assert answer.exit_code == exit_code
    expected = f"sandboxd run: detail of {code} (limits.memory) [{code}]"
    advice = "; SANDBOXD_API_KEY has the key" if status == 401 else ""
    assert answer.stderr == f"{expected}{advice}\n" and answer.stdout == ""


def test_overload_is_one_line(invoke, service):
    problem = sys.modules["cli_wire_service"].problem
    service.answers += [lambda: problem(429, "queue_full", retry_after=0.01)] * 3
    answer = invoke()
    assert (answer.exit_code, len(answer.stderr.splitlines())) == (75, 1)


def test_service_that_is_not_there_is_one_line(program, tmp_path):
    command = [*_COMMAND, str(program), "--url", f"unix:{tmp_path}/none"]
    process = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert process.returncode == 69 and process.stdout == b""
    assert len(process.stderr.splitlines()) == 1 and b"Traceback" not in process.stderr


def test_interrupt_cancels_the_run_and_tells_its_end(start, service):
    process = start()
    process.stdin.write(b"up\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    err = process.stderr.read()
    assert err.startswith(b"cancelled: ") and len(err.splitlines()) == 1
    assert service.sent("DELETE")


def test_interrupt_cancels_a_run_that_is_only_waited_for(start, service, program):
    program.write_text("hold")
    process = start("--json", stdin=subprocess.DEVNULL)
    assert service.submitted.wait(30)
    assert service.followed.wait(30)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and json.loads(out)["status"] == "cancelled"


def test_second_interrupt_quits_at_once(start, service):
    async def deaf(socket: Any, run: Any) -> None:
        await socket.send_bytes(b"\x01up\n")
        async with run.changed:
            await run.changed.wait_for(lambda: run.result is not None)
        asked.set()
        await release.wait()

    asked, release = threading.Event(), asyncio.Event()
    service.on_stream = deaf
    process = start()
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGINT)
    assert asked.wait(30)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    service._loop.call_soon_threadsafe(release.set)


def test_reader_that_leaves_the_pipe_cancels_the_run(start, service):
    process = start()
    process.stdin.write(b"one\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"one\n"
    process.stdout.close()
    process.stdin.write(b"two\n")
    process.stdin.flush()
    assert process.wait(timeout=30) == 141
    err = process.stderr.read()
    assert b"Traceback" not in err and b"Exception ignored" not in err
    assert service.sent("DELETE")
    process.stdin.close()
    process.stdin = process.stdout = None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memory=64M", ("memory", 64 << 20)),
        ("memory=1.5GiB", ("memory", 3 << 29)),
        ("disk=4096", ("disk", 4096)),
        ("stack=8mb", ("stack", 8 << 20)),
        ("cpu_time=.5", ("cpu_time", 0.5)),
        ("wall_time=2m", ("wall_time", 120.0)),
        ("open_files=64", ("open_files", 64)),
    ],
)
def test_limits_take_units(text, expected):
    assert limit(text) == expected
