"""What a hijacked gateway or courier could still do: each attempt is made unconfined and confined."""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sandboxd.gateway.confinement import Filters, installed, readable
from sandboxd.gateway.courier.main import Filters as CourierFilters
from sandboxd.native import compile_seccomp
from sandboxd.settings import Settings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ROOT = Path(__file__).parents[2]

# By attempt: what the confined gateway gets. Unconfined, all of them succeed or fail otherwise.
REFUSED = {
    "execve": errno.EPERM,
    "fork": errno.EPERM,
    "vfork and exec": errno.EPERM,
    "ptrace": errno.EPERM,
    "unshare": errno.EPERM,
    "mount": errno.EPERM,
    "bpf": errno.EPERM,
    "io_uring": errno.EPERM,
    "memfd": errno.EPERM,
    "kill": errno.EPERM,
    "rlimit": errno.EPERM,
    "bind": errno.EPERM,
    "listen": errno.EPERM,
    "executable memory": errno.EPERM,
    "data becomes code": errno.EPERM,
    "netlink": errno.EAFNOSUPPORT,
    "read passwd": errno.EACCES,
    "read store": errno.EACCES,
    "read state": errno.EACCES,
    "list stage": errno.EACCES,
    "write tmp": errno.EACCES,
    "make directory": errno.ENOSYS,
    "rename": errno.EPERM,
    "remove": errno.EPERM,
    "read proc": errno.EACCES,
}
KEPT = ("thread", "import", "unix socket", "wake-up", "name of localhost", "random")
OF_THE_GATEWAY = ("keys", "read keys", "accept", "call node")
FILES = {
    "gateway": {"always": "gateway", "local": "gateway-local", "serving": "gateway-serving"},
    "courier": {"always": "gateway", "calling": "courier"},
}
assert {*FILES["gateway"]} == {*Filters.__struct_fields__}
assert {*FILES["courier"]} == {*CourierFilters.__struct_fields__}


def filters(who: str) -> dict[str, str]:
    directory = Settings().policy_path / "seccomp"
    return {
        name: compile_seccomp((directory / f"{file}.json").read_bytes()).hex()
        for name, file in FILES[who].items()
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A state directory, a store and a stage whose rights would let everybody in."""
    for name in ("store", "state", "stage", "keys", "tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
    for name in ("store", "state"):
        (tmp_path / name / "secret").write_text("secret")
    (tmp_path / "keys" / "keys").write_text("ann:" + "0" * 64)
    (tmp_path / "node").mkdir(mode=0o755)
    for directory in [tmp_path, *tmp_path.parents]:
        if directory.stat().st_uid == os.getuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o011)
    return tmp_path


def attempts(place: Path, redis: str, who: str) -> dict[str, int]:
    """errno of each attempt, 0 for success; `who` is gateway, courier, or else unconfined."""
    with subprocess.Popen(["/bin/sleep", "60"], user=64_999) as victim:
        task = {
            "place": str(place), "redis": redis, "who": who, "victim": victim.pid,
            "filters": filters(who) if who in FILES else {},
        }  # fmt: skip
        try:
            done = subprocess.run(
                [sys.executable, "-m", "tests.gateway.inside.intruder"], cwd=ROOT,
                input=json.dumps(task), text=True, capture_output=True, timeout=30,
            )  # fmt: skip
        finally:
            victim.kill()
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_confined_gateway_is_refused_what_serving_does_not_need(place: Path) -> None:
    url = f"unix://{place}/redis.sock"
    free = attempts(place, url, "nobody")
    held = attempts(place, url, "gateway")
    assert {name: held[name] for name in REFUSED} == REFUSED
    vacuous = [name for name in REFUSED if free[name] == held[name]]
    assert vacuous == []
    kept = (*KEPT, *OF_THE_GATEWAY)
    assert {name: held[name] for name in kept} == dict.fromkeys(kept, 0)
    # Redis is a unix socket: nobody outside can be called, by any protocol.
    assert held["call redis"] == held["call elsewhere"] == held["datagram"] == errno.EAFNOSUPPORT


def test_gateway_of_a_redis_elsewhere_calls_only_its_port(place: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as redis,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        url = f"redis://127.0.0.1:{redis.getsockname()[1]}"
        place.joinpath("elsewhere").write_text(str(other.getsockname()[1]))
        free = attempts(place, url, "nobody")
        held = attempts(place, url, "gateway")
    assert free["call redis"] == free["call elsewhere"] == held["call redis"] == 0
    assert held["call elsewhere"] == errno.EACCES
    assert {name: held[name] for name in REFUSED} == REFUSED


def test_confined_courier_calls_and_does_nothing_else(place: Path) -> None:
    url = f"unix://{place}/redis.sock"
    with socket.create_server(("127.0.0.1", 0)) as target:
        place.joinpath("elsewhere").write_text(str(target.getsockname()[1]))
        free = attempts(place, url, "nobody")
        held = attempts(place, url, "courier")
    refused = REFUSED | {
        "accept": errno.EPERM,
        "keys": errno.EACCES,
        "read keys": errno.EACCES,
        # Its user is not the one that the node lets in.
        "call node": errno.EACCES,
    }
    assert {name: held[name] for name in refused} == refused
    assert [name for name in refused if free[name] == held[name]] == []
    assert {name: held[name] for name in KEPT} == dict.fromkeys(KEPT, 0)
    assert held["call elsewhere"] == held["datagram"] == 0


def test_what_stays_readable_holds_no_secret_of_the_service() -> None:
    settings = Settings()
    for path in {*readable(settings), *installed()}:
        for secret in (
            settings.state_path,
            settings.run_path,
            Path("/root/.ssh"),
            Path("/etc/shadow"),
        ):
            assert not secret.is_relative_to(path.resolve()), path


def test_process_with_threads_is_not_half_confined() -> None:
    """Landlock would hold the calling thread only. The check comes before anything irrevocable."""
    code = (
        "import threading; from sandboxd.settings import Settings, SettingsError; "
        "from sandboxd.gateway.confinement import Filters, confine\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "try: confine(Settings(), Filters(always=b'', local=b'', serving=b''))\n"
        "except SettingsError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=20
    )
    assert "threads" in done.stdout, done.stderr


def test_empty_program_stops_the_start() -> None:
    code = (
        "import os; from sandboxd.settings import Settings; from sandboxd.gateway import privileges\n"
        "from sandboxd.gateway.confinement import Filters, confine\n"
        "privileges.drop(64999); confine(Settings(), Filters(always=b'', local=b'', serving=b''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 1 and "OSError: [Errno 22]" in done.stderr
