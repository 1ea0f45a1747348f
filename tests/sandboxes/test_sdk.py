"""The SDK against a real service: what its users see, blocking and asyncio."""

import dataclasses
import io
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from sandboxd_client import (
    AsyncClient,
    AsyncSandbox,
    AsyncSandboxTools,
    Client,
    RequestError,
    Sandbox,
    SandboxEvent,
    SandboxLimits,
    SandboxTools,
    Timeout,
)

from tests.sandboxes.conftest import KEYS
from tests.service.instance import Service

pytestmark = [pytest.mark.root, pytest.mark.service]


def test_leaving_the_context_ends_it(client: Client) -> None:
    with Sandbox.create(client=client, limits=SandboxLimits(memory=128 << 20)) as sandbox:
        assert sandbox.info.limits.memory == 128 << 20
        assert f"{sandbox.id}, running" in repr(sandbox)
        assert sandbox.run("echo $((6 * 7))").stdout == "42\n"
    info = sandbox.refresh()
    assert info.state == "ended" and info.end is not None and info.end.reason == "killed"
    with pytest.raises(RequestError) as gone:
        sandbox.run("true")
    assert (gone.value.code, gone.value.retryable, gone.value.status) == (
        "sandbox_ended", False, 410,
    )  # fmt: skip


def test_without_a_client_the_environment_says_which_service(
    served: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDBOXD_URL", served.url)
    monkeypatch.setenv("SANDBOXD_API_KEY", KEYS["bob"])
    with Sandbox.create(metadata={"from": "environment"}) as sandbox:
        listed = list(Sandbox.list(metadata={"from": "environment"}))
        assert [info.id for info in listed] == [sandbox.id]
        same = Sandbox.connect(sandbox.id)
        assert same.run("echo same").stdout == "same\n"
        same.close()


def test_results_are_typed_and_frozen(sandbox: Sandbox) -> None:
    result = sandbox.run(["sh", "-c", "cat; echo err >&2; exit 3"], input=b"\xff\n")
    assert (result.exit_code, result.ok, result.stderr) == (3, False, "err\n")
    assert (result.stdout_bytes, result.stdout) == (b"\xff\n", "\ufffd\n")
    assert result.cpu_time > 0 and result.peak_memory > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.stdout = ""  # type: ignore[misc]


def test_a_command_is_its_users_or_roots(sandbox: Sandbox) -> None:
    assert sandbox.run(["id", "-u"]).stdout == "1000\n"
    assert sandbox.run(["id", "-u"], user="root").stdout == "0\n"


def test_output_is_heard_as_it_comes(sandbox: Sandbox) -> None:
    heard: list[tuple[float, str]] = []
    script = "printf 'gr\\303'; sleep 0.3; printf '\\274n\\n'; echo err >&2"
    errors: list[str] = []
    result = sandbox.run(
        script, on_stdout=lambda text: heard.append((time.monotonic(), text)),
        on_stderr=errors.append,
    )  # fmt: skip
    assert "".join(text for _, text in heard) == result.stdout == "grün\n"
    assert errors == ["err\n"] and heard[-1][0] - heard[0][0] > 0.2
    pieces = list(sandbox.stream("echo a; sleep 0.1; echo b >&2"))
    assert [(p.stream, p.data) for p in pieces] == [("stdout", b"a\n"), ("stderr", b"b\n")]


def test_what_is_kept_of_much_output(sandbox: Sandbox) -> None:
    for heard in (None, lambda _: None):
        result = sandbox.run("seq 200000", keep_output=100, on_stdout=heard)
        assert result.stdout.endswith("\n199999\n200000\n") and len(result.stdout_bytes) == 100
        assert result.stdout_truncated


def test_code_of_several_languages(sandbox: Sandbox) -> None:
    assert sandbox.run_code("print(sum(range(10)))").stdout == "45\n"
    assert sandbox.run_code("echo $BASH_VERSION", language="bash").stdout.strip()
    assert "ZeroDivisionError" in sandbox.run_code("1 / 0").stderr
    with pytest.raises(ValueError, match="language"):
        sandbox.run_code("", language="cobol")


def test_deadlines(sandbox: Sandbox) -> None:
    result = sandbox.run("sleep 60", timeout=0.3)
    assert result.timed_out and not result.ok
    process = sandbox.process.start("sleep 60")
    with pytest.raises(Timeout):
        process.wait(1.0)
    process.kill()
    assert process.wait(10).signal == "SIGKILL"


def test_a_background_process(sandbox: Sandbox) -> None:
    process = sandbox.process.start("read x; echo got $x; exit 4", stdin=True, tag="bg")
    assert [(p.tag, p.running) for p in sandbox.process.list()] == [("bg", True)]
    process.write("it\n")
    assert process.wait(10).exit_code == 4
    again = sandbox.process.get(process.id)
    assert again.result().stdout == "got it\n"
    assert b"".join(piece.data for piece in again.output()) == b"got it\n"


def test_a_terminal(sandbox: Sandbox) -> None:
    with sandbox.pty.open(rows=20, cols=70) as terminal:
        assert terminal.process is not None and terminal.process.pty
        terminal.write("stty size; exit 5\n")
        seen = b"".join(piece.data for piece in terminal)
    assert b"20 70" in seen and terminal.process.exit_code == 5
    with sandbox.pty.open() as left:
        assert left.process is not None
        name = left.process.id
    with sandbox.process.get(name).attach() as found:
        found.resize(11, 22)
        found.write("stty size; exit\n")
        assert b"11 22" in b"".join(piece.data for piece in found)


def test_files(sandbox: Sandbox, tmp_path: Path) -> None:
    files = sandbox.files
    assert files.write("a/b.txt", "text", mode=0o600).mode == 0o600
    assert files.append("a/b.txt", b"!").size == 5
    assert (files.read("a/b.txt"), files.read_text("a/b.txt")) == (b"text!", "text!")
    assert files.exists("a/b.txt") and not files.exists("a/c.txt")
    files.move("a/b.txt", "a/c.txt")
    assert files.chmod("a/c.txt", 0o755).mode == 0o755
    assert files.make_dir("d/e").type == "directory"
    assert files.write_many({"m/1": "one", "m/2": b"\xff"}) == 2
    names = {info.path for info in files.list("/work", depth=3)}
    assert {"/work/a/c.txt", "/work/d/e", "/work/m/2"} <= names
    files.write(b"no-utf8-\xff", b"x")
    assert b"no-utf8-\xff" in {os.path.basename(i.path) for i in files.list() if
                               isinstance(i.path, bytes)}  # fmt: skip
    assert files.remove("m", recursive=True) == 3
    data = os.urandom(3 << 20)
    (tmp_path / "big").write_bytes(data)
    told: list[tuple[int, int | None]] = []
    files.upload(tmp_path / "big", "big", progress=lambda done, of: told.append((done, of)))
    assert told[-1] == (len(data), len(data)) and len(told) > 3
    assert files.download("big", tmp_path / "back") == len(data)
    assert (tmp_path / "back").read_bytes() == data
    assert b"".join(files.stream("big", offset=len(data) - 5)) == data[-5:]
    packed = io.BytesIO()
    files.read_tar("a", packed)
    packed.seek(0)
    files.write_tar("copy", packed)
    assert files.stat("copy/c.txt").mode == 0o755
    assert httpx.get(files.sign("a/c.txt").url).content == b"text!"
    with pytest.raises(RequestError) as absent:
        files.read("nothing")
    assert absent.value.code == "path_not_found"


class _Broken(Exception):
    """The user's own, in the middle of a transfer."""


def _breaks_at(limit: int) -> Callable[[int, int | None], None]:
    def progress(done: int, size: int | None) -> None:
        if done > limit:
            raise _Broken

    return progress


def test_transfers_go_on_where_they_broke_off(client: Client, tmp_path: Path) -> None:
    data = os.urandom(12 << 20)
    here, back = tmp_path / "here", tmp_path / "back"
    here.write_bytes(data)
    with Sandbox.create(client=client) as sandbox:
        files = sandbox.files
        files.write("there", "old")
        with pytest.raises(_Broken):
            files.upload(here, "there", resume=True, progress=_breaks_at(8 << 20))
        assert files.read("there") == b"old"
        (part,) = [each.path for each in files.list(".") if each.path.endswith(".part")]
        deadline = time.monotonic() + 20
        while (kept := files.stat(part).size) < 1 << 20:  # what was under way is written out
            assert time.monotonic() < deadline
        told: list[int] = []
        files.upload(
            here, "there", mode=0o640, resume=True, progress=lambda done, _: told.append(done)
        )
        assert kept < told[0] and told[-1] == len(data)
        assert files.read("there") == data and files.stat("there").mode == 0o640

        with pytest.raises(_Broken):
            files.download("there", back, resume=True, progress=_breaks_at(8 << 20))
        assert not back.exists()
        told.clear()
        files.download("there", back, resume=True, progress=lambda done, _: told.append(done))
        assert told[0] > 8 << 20 and back.read_bytes() == data
        assert [each.name for each in tmp_path.iterdir() if each.name.endswith(".part")] == []
        assert not [each for each in files.list(".") if each.path.endswith(".part")]

        with pytest.raises(_Broken):
            files.download("there", back, resume=True, progress=_breaks_at(8 << 20))
        files.write("there", data[::-1])
        assert files.download("there", back, resume=True) == len(data)
        assert back.read_bytes() == data[::-1], "another version is not gone on with"


def test_a_watch(sandbox: Sandbox) -> None:
    changes = sandbox.files.watch(wait=20)
    timer = threading.Timer(0.5, lambda: sandbox.run("echo x > new"))
    timer.start()
    assert next(changes).path in ("./new", "new", "/work/new")
    timer.join()


def test_pause_fork_update_and_events(sandbox: Sandbox) -> None:
    sandbox.files.write("seed", "1")
    assert sandbox.pause().state == "paused" and sandbox.resume().state == "running"
    assert sandbox.update(metadata={"n": "1"}, idle_timeout=600).metadata == {"n": "1"}
    assert sandbox.extend(900).timeout == 900
    children = sandbox.fork(2)
    assert [child.files.read("seed") for child in children] == [b"1", b"1"]
    assert {child.info.forked_from for child in children} == {sandbox.id}
    for child in children:
        child.kill()
    assert sandbox.metrics().memory > 0
    sandbox.kill()
    assert [event.type for event in sandbox.events()][::5] == ["created", "ended"]


def test_events_of_all_sandboxes_and_use_over_time(client: Client) -> None:
    news: queue.Queue[SandboxEvent] = queue.Queue()
    own: set[str] = set()

    def listen() -> None:
        for event in Sandbox.all_events(client=client, wait=120):
            news.put(event)
            if event.type == "ended" and event.sandbox in own:
                return

    listener = threading.Thread(target=listen)
    listener.start()
    with Sandbox.create(client=client) as sandbox:
        own.add(sandbox.id)
        while True:  # the stream begins a moment after it was asked for
            sandbox.extend()
            with suppress(queue.Empty):
                event = news.get(timeout=0.5)
                if event.sandbox == sandbox.id:
                    break
        assert event.type in ("created", "extended")
        used = sandbox.metrics_stream(interval=1)
        first, second = next(used), next(used)
        assert 0 < first.memory <= first.memory_limit and second.at > first.at
        used.close()  # type: ignore[attr-defined]
    listener.join(60)
    assert not listener.is_alive(), "its end is an event too"


async def test_the_same_for_asyncio(served: Service) -> None:
    async with AsyncClient(served.url, KEYS["ann"]) as client:
        async with await AsyncSandbox.create(client=client) as sandbox:
            assert (await sandbox.run("echo hi")).stdout == "hi\n"
            assert [p.data async for p in sandbox.stream("echo a")] == [b"a\n"]
            await sandbox.files.write("x", b"data")
            assert await sandbox.files.read("x") == b"data"
            assert [info.path async for info in sandbox.files.list()] == ["./x"]
            process = await sandbox.process.start("cat", stdin=True)
            async with process.attach() as terminal:
                await terminal.write("both ways")
                piece = await terminal.receive()
                assert piece is not None and piece.data == b"both ways"
                await terminal.close_stdin()
                assert (await terminal.wait()).exit_code == 0
            tools = AsyncSandboxTools(sandbox)
            call = {
                "id": "1",
                "name": "run_code",
                "input": {"code": "print(1)"},
                "type": "tool_use",
            }
            (block,) = await tools.anthropic_results([call])
            assert block["content"] == "stdout:\n1\n" and not block["is_error"]
        assert (await sandbox.refresh()).state == "ended"


def _openai(name: str, arguments: str) -> dict[str, object]:
    return {"id": f"call_{name}", "type": "function",
            "function": {"name": name, "arguments": arguments}}  # fmt: skip


def test_tools_for_models(sandbox: Sandbox) -> None:
    tools = SandboxTools(sandbox, output_max=200)
    names = [tool["function"]["name"] for tool in tools.openai()]
    assert names == [tool["name"] for tool in tools.anthropic()]
    assert set(names) == {"run_code", "run_command", "read_file", "write_file"}
    answers = tools.openai_messages([
        _openai("write_file", '{"path": "n.txt", "content": "7"}'),
        _openai("run_code", '{"code": "print(int(open(\'n.txt\').read()) * 6)"}'),
        _openai("run_command", '{"command": "seq 1000; exit 2"}'),
        _openai("read_file", '{"path": "absent"}'),
        _openai("run_command", '{"command": "sleep 9", "timeout": 0.2}'),
    ])  # fmt: skip
    assert [answer["tool_call_id"] for answer in answers] == [
        f"call_{name}"
        for name in ("write_file", "run_code", "run_command", "read_file", "run_command")
    ]
    wrote, ran, much, absent, late = (answer["content"] for answer in answers)
    assert wrote == "wrote 1 bytes" and ran == "stdout:\n42\n"
    assert "characters left out" in much and much.endswith("exit code 2") and len(much) < 400
    assert absent.startswith("error: ") and "path_not_found" in absent
    assert "killed: it took longer" in late
    item = {"type": "function_call", "call_id": "c1", "name": "run_command",
            "arguments": '{"command": "pwd"}'}  # fmt: skip
    assert tools.openai_outputs([{"type": "message"}, item]) == [
        {"type": "function_call_output", "call_id": "c1", "output": "stdout:\n/work\n"}
    ]


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [("run_code", "{", "not JSON"), ("run_code", "[]", "not an object"),
     ("run_code", "{}", "code is missing"), ("explode", "{}", "there is no tool"),
     ("run_code", '{"code": 1}', "not a string"), ("run_command", '{"command":"x","sudo":true}', "sudo"),
     ("run_code", '{"code": "", "language": "cobol"}', "one of")],
)  # fmt: skip
def test_a_models_mistakes_are_told_to_it(
    sandbox: Sandbox, name: str, arguments: str, told: str
) -> None:
    (answer,) = SandboxTools(sandbox).openai_messages([_openai(name, arguments)])
    assert answer["content"].startswith("error: ") and told in answer["content"]


def test_a_sandbox_that_is_gone_is_raised_not_told(sandbox: Sandbox) -> None:
    sandbox.kill()
    with pytest.raises(RequestError):
        SandboxTools(sandbox).openai_messages([_openai("read_file", '{"path": "x"}')])
