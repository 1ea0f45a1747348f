"""The gateway as a process: where it listens, who it is, how it starts and stops."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from sandboxd.gateway import listening
from sandboxd.gateway.confinement import Filters
from sandboxd.gateway.main import main
from sandboxd.settings import Settings, SettingsError, load

RUN = {"language": "python", "source": "1"}
FILTERS = ("gateway", "gateway-local", "gateway-serving")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    for name, text in {
        "limits/default.toml": "[defaults]\n[maximum]\n[compile_defaults]\n",
        "templates/default.toml": 'name = "default"\n',
        "languages/python.toml": 'name = "python"\ntitle = "P"\nsource = "main.py"\n'
        'run = ["python3"]\n[self_test]\nsource = ""\nstdout = ""\n',
    }.items():
        path = tmp_path / "policies" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "policies" / "seccomp").mkdir()
    for name in FILTERS:
        shipped = Settings().policy_path / "seccomp" / f"{name}.json"
        shutil.copy(shipped, tmp_path / "policies" / "seccomp")
    (tmp_path / "policies").chmod(0o755)
    return tmp_path / "policies"


def command(*flags: str) -> list[str]:
    options = [word for flag in flags for word in ("--set", flag)]
    return [sys.executable, "-m", "sandboxd.cli.main", *options, "gateway"]


@contextmanager
def process(policies: Path, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    ready, ours = os.pipe()
    gateway = subprocess.Popen(
        command(f"policies={policies}", f"instance=t{uuid4().hex[:9]}", *flags),
        env=os.environ | {"SANDBOXD_READY_FD": str(ours)}, pass_fds=[ours],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(ours)
    try:
        with open(ready, "rb") as pipe:
            gateway.ready = pipe.read()  # type: ignore[attr-defined]
        yield gateway
    finally:
        gateway.kill()
        gateway.wait()
        if gateway.stderr is not None:
            gateway.stderr.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@as_root
def test_gateway_serves_as_nobody_and_stops_cleanly(policies: Path, redis_url: str) -> None:
    port = free_port()
    open_to_all(redis_url)
    with process(
        policies, f"gateway.listen=127.0.0.1:{port}", f"redis.url={redis_url}",
        "gateway.uid=64999",
    ) as gateway:  # fmt: skip
        assert gateway.ready == b"ready\n"  # type: ignore[attr-defined]
        lines = Path(f"/proc/{gateway.pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines)
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"64999"}
        assert status["Groups"].split() == []
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        # The filter itself, what a unix Redis adds, and what listening adds.
        assert (status["Seccomp"], status["Seccomp_filters"]) == ("2", "3")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as api:
            assert api.get("/healthz").status_code == 200
            answer = api.post("/v1/runs", json=RUN, headers={"Prefer": "respond-async"})
            assert answer.status_code == 202
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(10) == 0


def open_to_all(redis_url: str) -> None:
    """Let the unprivileged gateway reach the test's Redis."""
    path = Path(redis_url.removeprefix("unix://"))
    path.chmod(0o777)
    let_through(path)


def let_through(path: Path) -> None:
    """Let the unprivileged gateway pass the directories above `path`."""
    for parent in path.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)


@as_root
def test_strangers_write_nothing_into_the_log(policies: Path, redis_url: str) -> None:
    """No line of it is theirs, whatever they put into a request line, a field or a body."""
    port, forged = free_port(), "ERROR:root:forged"
    open_to_all(redis_url)
    with process(
        policies, f"gateway.listen=127.0.0.1:{port}", f"redis.url={redis_url}",
        "log_level=debug",
    ) as gateway:  # fmt: skip
        line = f"%0d%0a{forged}%1b[2J".encode()
        for request in (
            b"GET /" + line + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /v1/runs/run_" + line + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: \x1b[2J"
            + forged.encode()
            + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: " + forged.encode() + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\n" + forged.encode() + b"\r\n\r\n",
            f"{forged}\n{forged}\r\n\r\n".encode(),
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
                assert client.recv(64).split()[1] in (b"400", b"403", b"404"), request
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as api:
            body = {"language": f"x\n{forged}", "source": "1", "env": {f"A\n{forged}": "1"}}
            assert api.post("/v1/runs", json=body).status_code == 422
            key = {"Idempotency-Key": f"a{forged}"}
            assert api.post("/v1/runs", json=RUN | {"x": forged}, headers=key).status_code == 422
        gateway.send_signal(signal.SIGTERM)
        assert gateway.stderr is not None
        log = gateway.stderr.read().decode()
        assert gateway.wait(10) == 0
    assert "ready" in log
    assert forged not in log and "\x1b" not in log, log


@as_root
def test_stop_answers_the_waiting_request(policies: Path, redis_url: str) -> None:
    port = free_port()
    open_to_all(redis_url)
    with process(
        policies, f"gateway.listen=127.0.0.1:{port}", f"redis.url={redis_url}",
        "gateway.shutdown_timeout=0.2",
    ) as gateway:  # fmt: skip
        body = b'{"language": "python", "source": "1"}'
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(
                b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as api:
                while "sandboxd_gateway_waiting 1.0" not in api.get("/metrics").text:
                    time.sleep(0.02)
            gateway.send_signal(signal.SIGTERM)
            assert client.recv(64).startswith(b"HTTP/1.1 503 ")
        assert gateway.wait(10) == 0


@as_root
def test_ready_waits_for_redis(policies: Path, tmp_path: Path) -> None:
    port = free_port()
    ready, ours = os.pipe()
    gateway = subprocess.Popen(
        command(f"policies={policies}", f"gateway.listen=127.0.0.1:{port}",
                f"redis.url=unix://{tmp_path}/nobody.sock"),
        env=os.environ | {"SANDBOXD_READY_FD": str(ours)}, pass_fds=[ours],
    )  # fmt: skip
    os.close(ours)
    os.set_blocking(ready, False)
    try:
        until_alive(port)
        with pytest.raises(BlockingIOError):
            os.read(ready, 16)
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(10) == 0
        assert os.read(ready, 16) == b""
    finally:
        os.close(ready)
        gateway.kill()
        gateway.wait()


def until_alive(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as api:
        while True:
            try:
                assert api.get("/healthz").status_code == 200
                return
            except httpx.ConnectError:
                time.sleep(0.02)


def refusal(policies: Path, capfd: pytest.CaptureFixture[str], *flags: str) -> str:
    """What main says when it refuses these settings. It does so while it is still whoever it was."""
    settings = load(None, {}, (f"policies={policies}", "gateway.listen=127.0.0.1:0", *flags))
    assert main(settings, Filters(always=b"", local=b"", serving=b"")) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("sandboxd gateway: ")
    return lines[0]


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "box.example:0"])
def test_address_that_strangers_reach_needs_keys(
    policies: Path, capfd: pytest.CaptureFixture[str], listen: str
) -> None:
    assert "gateway.keys_file" in refusal(policies, capfd, f"gateway.listen={listen}")


@pytest.mark.parametrize(
    "flag",
    [
        "gateway.listen=7070",
        "gateway.listen=localhost:x",
        "gateway.listen=unix:relative",
        "gateway.listen=unix:/no/such/directory/s.sock",
        "gateway.keys_file=/no/such/file",
        "policies=/no/such/directory",
    ],
)
def test_settings_that_make_no_sense_are_one_line_and_status_2(
    policies: Path, capfd: pytest.CaptureFixture[str], flag: str
) -> None:
    assert refusal(policies, capfd, flag)


@as_root
def test_gateway_refuses_to_be_root(policies: Path) -> None:
    with process(policies, "gateway.listen=127.0.0.1:0", "gateway.uid=0") as gateway:
        assert gateway.wait(10) == 2


@as_root
def test_keys_that_could_not_be_read_again_are_refused(policies: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ann:" + "0" * 64)
    keys.chmod(0o600)
    with process(policies, "gateway.listen=127.0.0.1:0", f"gateway.keys_file={keys}") as gateway:
        _, errors = gateway.communicate(timeout=10)
        assert gateway.returncode == 2 and b"keys_file" in errors


@as_root
def test_confined_gateway_reads_keys_that_replaced_the_old(
    policies: Path, tmp_path: Path, redis_url: str
) -> None:
    port = free_port()
    open_to_all(redis_url)
    directory = tmp_path / "keys"
    directory.mkdir(mode=0o755)
    let_through(directory)
    keys = directory / "keys"
    keys.write_text("ann:" + "0" * 64)
    with process(
        policies, f"gateway.listen=127.0.0.1:{port}", f"redis.url={redis_url}",
        f"gateway.keys_file={keys}",
    ) as gateway:  # fmt: skip
        assert gateway.ready == b"ready\n"  # type: ignore[attr-defined]
        (directory / "new").write_text("bob:" + hashlib.sha256(b"key").hexdigest())
        (directory / "new").rename(keys)
        gateway.send_signal(signal.SIGHUP)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as api:
            headers = {"Authorization": "Bearer key"}
            while (code := api.get("/v1/languages", headers=headers).status_code) == 401:
                time.sleep(0.02)
            assert code == 200


def test_policies_without_the_gateways_filter_stop_the_start(policies: Path) -> None:
    (policies / "seccomp" / "gateway.json").unlink()
    done = subprocess.run(
        command(f"policies={policies}", "gateway.listen=127.0.0.1:0"),
        capture_output=True,
        timeout=20,
    )
    assert done.returncode == 2 and b"gateway.json" in done.stderr


def test_keys_allow_every_address() -> None:
    listening.check_exposure(listening.parse("0.0.0.0:7070"), has_keys=True)
    listening.check_exposure(listening.parse("127.0.0.1:7070"), has_keys=False)
    listening.check_exposure(listening.parse("[::1]:7070"), has_keys=False)
    listening.check_exposure(listening.parse("unix:/run/x.sock"), has_keys=False)
    with pytest.raises(SettingsError, match="keys"):
        listening.check_exposure(listening.parse("0.0.0.0:7070"), has_keys=False)


def test_unix_socket_replaces_a_stale_one_but_not_a_live_one(tmp_path: Path) -> None:
    address = listening.parse(f"unix:{tmp_path}/g.sock")
    listening.bind(address, os.getgid()).close()
    live = listening.bind(address, os.getgid())
    assert (tmp_path / "g.sock").stat().st_mode & 0o777 == 0o660
    with pytest.raises(SettingsError, match="in use"):
        listening.bind(address, os.getgid())
    live.close()
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(SettingsError):
        listening.bind(listening.parse(f"unix:{file}"), os.getgid())
    assert file.read_text() == "precious"
