"""The command line against a real service, on pipes and on a terminal."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.patience import PATIENCE
from tests.sandboxes.conftest import KEYS, Box
from tests.service.instance import Service

pytestmark = [pytest.mark.root, pytest.mark.service]

CLI = [sys.executable, "-m", "sandboxd.cli.main"]
WITHIN = 30 * PATIENCE


@pytest.fixture
def environment(served: Service, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ, "SANDBOXD_URL": served.url, "SANDBOXD_API_KEY": KEYS["ann"], "TERM": "xterm",
    }  # fmt: skip


@pytest.fixture
def cli(environment: dict[str, str], tmp_path: Path):  # type: ignore[no-untyped-def]
    def run(*words: str, input: str = "", code: int = 0) -> str:
        done = subprocess.run(
            [*CLI, *words], input=input, capture_output=True, text=True, env=environment,
            timeout=WITHIN, check=False,
        )  # fmt: skip
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    return run


def test_a_sandbox_from_create_to_kill(cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    name = cli(
        "sandbox", "create", "--metadata", "who=cli", "--limit", "memory=256M", "--timeout", "300"
    ).strip()
    document = json.loads(cli("sandbox", "get", name))
    assert document["limits"]["memory"] == 256 << 20
    assert name in cli("sandbox", "ls", "--metadata", "who=cli")
    assert (
        cli(
            "sandbox",
            "exec",
            name,
            "--",
            "sh",
            "-c",
            "echo $A; pwd",
        )
        == "\n/work\n"
    )
    assert cli("sandbox", "exec", "--env", "A=1", "--cwd", "/tmp", name, "sh", "-c",
               "echo $A; pwd") == "1\n/tmp\n"  # fmt: skip
    cli("sandbox", "exec", name, "--", "sh", "-c", "exit 7", code=7)
    assert cli("sandbox", "exec", "--user", "root", name, "id", "-u") == "0\n"
    assert "timeout" in cli("sandbox", "exec", "--timeout", "0.3", name, "sleep", "9", code=137)
    assert "there is no such program" in cli("sandbox", "exec", name, "no-such", code=127)
    process = cli("sandbox", "exec", "-d", name, "sleep", "60").strip()
    assert re.search(rf"{process}\s+running", cli("sandbox", "ps", name))
    cli("sandbox", "pause", name)
    assert json.loads(cli("sandbox", "get", name))["state"] == "paused"
    cli("sandbox", "resume", name)
    child = cli("sandbox", "fork", name).strip()
    cli("sandbox", "kill", name, child)
    assert json.loads(cli("sandbox", "get", name))["end"]["reason"] == "killed"
    assert "sandbox_ended" in cli("sandbox", "exec", name, "true", code=2)


def test_stdin_goes_in(cli, box: Box) -> None:  # type: ignore[no-untyped-def]
    assert cli("sandbox", "exec", "-i", box.id, "tr", "a-z", "A-Z", input="shout") == "SHOUT"


def test_code_keeps_its_state(cli, fresh: Box, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    cli("sandbox", "code", fresh.id, input="x = 40")
    assert cli("sandbox", "code", fresh.id, input="print('sum')\nx + 2") == "sum\n42\n"
    assert "ZeroDivisionError" in cli("sandbox", "code", fresh.id, input="1 / 0", code=1)
    program = tmp_path / "program.sh"
    program.write_text("cd /tmp; pwd")
    assert cli("sandbox", "code", "-l", "bash", fresh.id, str(program)) == "/tmp\n"
    plot = "import matplotlib.pyplot as plt; plt.plot([1]); plt.show()"
    cli("sandbox", "code", "--save", str(tmp_path / "kept"), fresh.id, input=plot)
    assert (tmp_path / "kept/value-1.png").read_bytes().startswith(b"\x89PNG")


def test_files_go_in_and_out(cli, box: Box, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = os.urandom(2 << 20)
    (tmp_path / "in").write_bytes(data)
    cli("sandbox", "cp", str(tmp_path / "in"), f"{box.id}:cli/data")
    cli("sandbox", "cp", f"{box.id}:cli/data", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == data
    cli("sandbox", "cp", "--resume", f"{box.id}:cli/data", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == data
    assert "single file" in cli("sandbox", "cp", "--resume", str(tmp_path), f"{box.id}:d", code=2)
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/x").write_text("deep")
    cli("sandbox", "cp", str(tree), f"{box.id}:cli/tree")
    cli("sandbox", "cp", f"{box.id}:cli/tree", str(tmp_path / "back"))
    assert (tmp_path / "back/sub/x").read_text() == "deep"
    cli("sandbox", "files", "write", f"{box.id}:cli/note", input="hello")
    assert cli("sandbox", "files", "cat", f"{box.id}:cli/note") == "hello"
    box.sh("touch 'cli/a\x1b[2Jb'")
    listed = cli("sandbox", "files", "ls", "-l", f"{box.id}:cli")
    assert "\\x1b[2Jb" in listed and "\x1b" not in listed and "note" in listed
    cli("sandbox", "files", "rm", "-r", f"{box.id}:cli")
    missing = cli("sandbox", "files", "ls", f"{box.id}:cli\x1b[2J", code=2)
    assert "cli\\x1b[2J: No such file or directory" in missing and "path_not_found" in missing
    assert "x: No such file" in cli("sandbox", "cp", str(tmp_path / "x"), f"{box.id}:x", code=1)


def test_a_port_is_forwarded(environment: dict[str, str], box: Box) -> None:
    box.start("python3", "-m", "http.server", "8000", "--bind", "127.0.0.1", cwd="/etc")
    assert box.ok("GET", "/ports/8000?wait=20")["open"]
    forwarding = subprocess.Popen(
        [*CLI, "sandbox", "forward", box.id, "8000", "--local", "0"], env=environment,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert forwarding.stdout is not None
        where = forwarding.stdout.readline().split()[0]
        for _ in range(2):
            answer = httpx.get(f"http://{where}/hostname", trust_env=False, timeout=WITHIN)
            assert answer.text == box.sh("cat /etc/hostname")
    finally:
        forwarding.send_signal(signal.SIGINT)
        assert forwarding.wait(WITHIN) == 130
        forwarding.stdout.close()


def test_a_port_has_a_link_and_a_network_its_record(cli, box: Box) -> None:
    box.start("python3", "-m", "http.server", "8001", "--bind", "127.0.0.1", cwd="/etc")
    assert box.ok("GET", "/ports/8001?wait=20")["open"]
    url = cli("sandbox", "link", box.id, "8001", "--expires", "60").strip()
    assert httpx.get(f"{url}hostname", trust_env=False, timeout=WITHIN).text == box.sh(
        "cat /etc/hostname"
    )
    assert cli("sandbox", "network", box.id) == ""


class Typist:
    """A command on a terminal of ours, and somebody who types."""

    def __init__(self, environment: dict[str, str], *words: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(CLI[0], [*CLI, *words], environment)
        self.seen = b""

    def resize(self, rows: int, cols: int) -> None:
        termios.tcsetwinsize(self.fd, (rows, cols))

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def until(self, text: str) -> None:
        deadline = time.monotonic() + WITHIN
        while text.encode() not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.fd], [], [], 0.2)[0]:
                self.seen += os.read(self.fd, 65536)

    def code(self) -> int:
        deadline = time.monotonic() + WITHIN
        while select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                self.seen += os.read(self.fd, 65536)
            except OSError:
                break
        else:
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


@pytest.fixture
def shell(environment: dict[str, str], box: Box) -> Iterator[Typist]:
    yield Typist(environment, "shell", box.id)


def test_a_shell_is_a_good_terminal(shell: Typist) -> None:
    shell.type("PS1='rea''dy '\n")
    shell.until("ready ")
    shell.resize(33, 111)
    time.sleep(0.5)
    shell.type("stty size; tty\n")
    shell.until("33 111")
    shell.until("/dev/pts/")
    shell.type("sleep 100\n")
    time.sleep(0.3)
    shell.type("\x03")  # Ctrl-C ends the sleep, not the shell
    shell.type("echo still $?\n")
    shell.until("still 130")
    shell.type("exit 9\n")
    assert shell.code() == 9


def test_a_shell_without_a_name_opens_a_sandbox_and_ends_it(
    environment: dict[str, str],
) -> None:
    typist = Typist(environment, "shell")
    typist.type("exec sh -c 'echo id:$(hostname):$$; exit 3'\n")
    typist.until("id:")
    assert typist.code() == 3


def test_a_shell_whose_service_breaks_says_how_to_come_back(
    environment: dict[str, str], served: Service, box: Box
) -> None:
    typist = Typist(environment, "shell", box.id)
    typist.type("kept=va''lue; echo re''ady\n")
    typist.until("ready")
    gateway = served.role("gateway")
    assert gateway is not None
    os.kill(gateway, signal.SIGKILL)
    typist.until("--attach prc_")
    assert typist.code() == 69
    attach = re.search(rb"--attach (prc_\w+)", typist.seen)
    assert attach is not None
    served.wait_ready()
    again = Typist(environment, "shell", "--attach", attach[1].decode(), box.id)
    again.type("echo still $kept; exit 4\n")
    again.until("still value")
    assert again.code() == 4


def test_what_is_behind_two_dashes_is_a_command_without_a_name_too(cli) -> None:  # type: ignore[no-untyped-def]
    assert cli("shell", "--", "sh", "-c", "echo $1 --url", "-", "it").split() == ["it", "--url"]
    assert "nosuch: there is no such program" in cli("shell", "--", "nosuch", code=127)


def test_a_terminal_that_is_closed_ends_the_sandbox_of_its_shell(
    environment: dict[str, str],
    cli,  # type: ignore[no-untyped-def]
) -> None:
    before = set(cli("sandbox", "ls").split())
    typist = Typist(environment, "shell")
    typist.type("echo he''re\n")
    typist.until("here")
    assert (made := set(cli("sandbox", "ls").split()) - before)
    os.close(typist.fd)
    _, status = os.waitpid(typist.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    assert not made & set(cli("sandbox", "ls").split())


def test_an_interrupt_ends_what_follows_without_a_word(
    environment: dict[str, str], box: Box
) -> None:
    typist = Typist(environment, "sandbox", "events", box.id)
    typist.until('"created"')
    typist.type("\x03")
    assert typist.code() == 130
    assert b"Aborted" not in typist.seen


def test_what_a_user_meets_first_is_told_what_to_do(
    environment: dict[str, str],
    cli,  # type: ignore[no-untyped-def]
) -> None:
    def said(code: int, **changed: str) -> str:
        done = subprocess.run(
            [*CLI, "sandbox", "ls"], env=environment | changed, capture_output=True, text=True,
            timeout=WITHIN, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stderr

    down = said(69, SANDBOXD_URL="http://127.0.0.1:1")
    assert "http://127.0.0.1:1: " in down and "`sandboxd serve`" in down
    assert "Authorization: Bearer" in said(77, SANDBOXD_API_KEY="")
    wrong = said(77, SANDBOXD_API_KEY="wrong")
    assert "none of this service's" in wrong and "SANDBOXD_API_KEY" in wrong
    assert "[not_found]" in cli("shell", "sbx_" + "a" * 26, code=2)


def test_a_sandbox_is_changed_and_followed(cli, box: Box) -> None:  # type: ignore[no-untyped-def]
    changed = json.loads(
        cli("sandbox", "update", box.id, "--limit", "pids=40", "--metadata", "a=b")
    )
    assert (changed["limits"]["pids"], changed["metadata"]) == (40, {"a": "b"})
    process = box.start("sh", "-c", "echo out; echo err >&2; sleep 60")
    cli("sandbox", "signal", box.id, process, "KILL")
    assert cli("sandbox", "output", box.id, process) == "out\n"
    deadline = time.monotonic() + WITHIN
    while len(lines := cli("sandbox", "metrics", "--history", box.id).splitlines()) < 2:
        assert time.monotonic() < deadline
    assert lines[0].startswith("AT") and lines[1].startswith("20")
    assert json.loads(cli("sandbox", "metrics", box.id))["pids_limit"] == 40


def test_files_are_looked_at_and_signed(cli, box: Box) -> None:  # type: ignore[no-untyped-def]
    box.put("looked", b"seen")
    cli("sandbox", "files", "chmod", f"{box.id}:looked", "600")
    assert cli("sandbox", "files", "stat", f"{box.id}:looked").split()[:2] == ["-0600", "4"]
    url = cli("sandbox", "files", "sign", f"{box.id}:looked").strip()
    assert httpx.get(url).content == b"seen"


def test_events_are_printed_to_the_end_of_their_sandbox(cli) -> None:  # type: ignore[no-untyped-def]
    name = cli("sandbox", "create").strip()
    cli("sandbox", "kill", name)
    events = [json.loads(line) for line in cli("sandbox", "events", name).splitlines()]
    assert [each["type"] for each in events] == ["created", "ended"]
    assert events[1]["data"] == {"reason": "killed"}
