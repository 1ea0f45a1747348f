"""`sandboxd serve`: one supervisor, three children, one life."""

import fcntl
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

import sandboxd

pytestmark = [pytest.mark.root, pytest.mark.service]

PATIENCE = 30.0
ROOT = Path(sandboxd.__file__).parents[1]


class Service:
    """One `sandboxd serve` process, on directories and a port of its own."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.instance = f"t{uuid4().hex[:10]}"
        self.flags = {
            "instance": self.instance,
            "run_dir": f"{directory}/run",
            "state_dir": f"{directory}/state",
            "gateway.listen": f"127.0.0.1:{self.port}",
        }
        self.run_path = directory / "run" / self.instance
        self.process: subprocess.Popen[str] | None = None

    def start(
        self, env: dict[str, str] | None = None, terminal: int | None = None, **changed: str
    ) -> "subprocess.Popen[str]":
        """With `terminal` as its controlling one."""
        arguments = [sys.executable, "-m", "sandboxd.cli.main"]
        for name, value in {**self.flags, **changed}.items():
            arguments += ["--set", f"{name.replace('__', '.')}={value}"]
        return subprocess.Popen(
            [*arguments, "serve"], cwd=ROOT, text=True, env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=terminal,
            start_new_session=terminal is not None,
            preexec_fn=None if terminal is None else lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip

    def refusal(self, **changed: str) -> tuple[int, str]:
        """Exit code and stderr of a start that must fail."""
        process = self.start(**changed)
        output, errors = process.communicate(timeout=PATIENCE)
        assert output == ""
        return process.returncode, errors

    def up(self, env: dict[str, str] | None = None, terminal: int | None = None) -> None:
        self.process = self.start(env, terminal)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == (
            f"sandboxd {sandboxd.__version__} ready on http://127.0.0.1:{self.port}\n"
        ), self.process.communicate(timeout=PATIENCE)

    def down(self) -> int:
        assert self.process is not None
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE)
        return self.process.returncode

    def children(self) -> dict[str, int]:
        """Name -> pid of the processes under the supervisor."""
        assert self.process is not None
        pid = self.process.pid
        found = {}
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            words = Path(f"/proc/{child}/cmdline").read_text().rstrip("\0 ").split("\0")
            name = "keeper" if words[-1].endswith("/keeper.sock") else words[-1]
            found["redis" if "redis" in words[0] else name] = int(child)
        return found

    def answer(self, path: str, body: object = None) -> dict[str, object]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            document: dict[str, object] = json.load(response)
            return document

    def answers_again(self) -> dict[str, object]:
        """A run's result as soon as the service gives one."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self.answer("/v1/runs", {"language": "bash", "source": "echo hi"})
            except (OSError, urllib.error.URLError):
                assert time.monotonic() < deadline
                time.sleep(0.05)


@pytest.fixture
def service() -> Iterator[Service]:
    # pytest's own directories are closed to other users, such as the gateway's.
    with tempfile.TemporaryDirectory(prefix="sandboxd-test-") as name:
        Path(name).chmod(0o755)
        service = Service(Path(name))
        yield service
        if service.process is not None and service.process.poll() is None:
            service.down()


def await_end(pids: list[int]) -> None:
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([descriptor], [], [], PATIENCE)[0]
        finally:
            os.close(descriptor)


def test_it_runs_programs_and_stops_without_a_trace_on_sigterm(service: Service) -> None:
    service.up()
    assert service.answer("/readyz")["status"] == "ready"
    result = service.answer("/v1/runs", {"language": "bash", "source": "echo hi"})
    assert (result["status"], result["stdout"]) == ("ok", "hi\n")
    children = service.children()
    assert set(children) == {"redis", "keeper", "node", "courier", "gateway"}
    assert service.down() == 0
    assert not [pid for pid in children.values() if Path(f"/proc/{pid}").exists()]
    assert not (service.run_path / "redis" / "redis.sock").exists()
    assert not (service.run_path / "keeper.sock").exists()


def test_it_ends_with_its_terminal_and_not_by_a_hangup_alone(service: Service) -> None:
    ours, theirs = pty.openpty()
    service.up(terminal=theirs)
    os.close(theirs)
    assert service.process is not None
    service.process.send_signal(signal.SIGHUP)  # files have changed
    assert service.answer("/v1/runs", {"language": "bash", "source": "echo hi"})["stdout"] == "hi\n"
    os.close(ours)
    service.process.communicate(timeout=PATIENCE)
    assert service.process.returncode == 0


@pytest.mark.parametrize("victim", ["gateway", "node", "redis"])
def test_a_killed_child_is_replaced_and_the_service_goes_on(service: Service, victim: str) -> None:
    service.up()
    before = service.children()
    os.kill(before[victim], signal.SIGKILL)
    await_end([before[victim]])
    assert service.answers_again()["stdout"] == "hi\n"
    after = service.children()
    assert after[victim] != before[victim]
    assert {k: v for k, v in after.items() if k != victim} == {
        k: v for k, v in before.items() if k != victim
    }
    assert service.down() == 0


def test_children_die_with_a_killed_supervisor_and_it_can_start_at_once(service: Service) -> None:
    service.up()
    assert service.process is not None
    children = list(service.children().values())
    service.process.kill()
    service.process.communicate(timeout=PATIENCE)
    await_end(children)
    service.up()
    assert service.answers_again()["stdout"] == "hi\n"
    assert service.down() == 0


def test_a_second_serve_of_the_same_instance_is_refused(service: Service) -> None:
    service.up()
    code, errors = service.refusal()
    assert code == 1
    assert errors == f"sandboxd serve: instance {service.instance} is already being served\n"
    assert service.answer("/readyz")["status"] == "ready"


def test_an_address_in_use_is_one_line_and_no_restart(service: Service) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, errors = service.refusal(gateway__listen=address)
    assert code != 0
    said = [line for line in errors.splitlines() if not line.startswith(("INFO", "WARNING"))]
    assert said == [f"sandboxd gateway: gateway.listen: {address}: Address already in use"]


def test_a_missing_redis_server_is_one_line(service: Service) -> None:
    code, errors = service.refusal(redis__server="nosuchserver")
    assert code == 2
    assert errors.startswith("sandboxd serve: redis.server: nosuchserver not found")
    assert errors.count("\n") == 1


def test_systemd_is_told(service: Service, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE)
        service.up({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert systemd.recv(100) == b"READY=1"
        assert service.down() == 0
        assert systemd.recv(100) == b"STOPPING=1"


def test_other_users_are_refused(service: Service) -> None:
    code = "import os, sys; os.setuid(65534); from sandboxd.cli.main import main; main()"
    sys_path = f"import sys; sys.path[:] = {sys.path!r}; "
    process = subprocess.run(
        [sys.executable, "-c", sys_path + "import sandboxd.cli.serve; " + code, "serve"],
        cwd=ROOT, text=True, capture_output=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert process.returncode == 1
    assert process.stderr.startswith("sandboxd serve: must be started as root")
    assert process.stderr.count("\n") == 1
