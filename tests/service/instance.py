"""A real service of its own: started as an operator would, stopped, and searched for leftovers."""

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.patience import PATIENCE
from tests.service import host

ROOT = Path(__file__).parents[2]
UID_SLOTS = 1_024  # one whole block, which two services of a machine never share
UID_SPAN = UID_SLOTS << 16
READY_WITHIN = 60.0 * PATIENCE
STOPPED_WITHIN = 30.0 * PATIENCE
ROLES = ("gateway", "courier", "node", "redis")
BLOCKS = 40
_LOCKS = Path("/tmp/sandboxd-test-uids")  # of the whole host, as uids are, whatever TMPDIR is


class ServiceError(AssertionError):
    """The service did not start, did not stop, or left something behind."""


class Service:
    """One running instance. Every host object of it carries `instance`."""

    def __init__(self, directory: Path, *settings: str) -> None:
        self.instance = f"t{os.getpid()}-{secrets.token_hex(3)}"
        block, lock = _free_block()
        weakref.finalize(self, os.close, lock)
        self.uid_base = 0x2000_0000 + block * UID_SPAN
        self.run_dir, self.state_dir = directory / "run", directory / "state"
        self.log = directory / "log"
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.argv = [sys.executable, "-m", "sandboxd.cli.main"]
        for setting in (
            f"instance={self.instance}",
            f"run_dir={self.run_dir}",
            f"state_dir={self.state_dir}",
            f"gateway.listen=127.0.0.1:{port}",
            f"node.uid_base={self.uid_base}",
            f"node.uid_slots={UID_SLOTS}",
            *settings,
        ):
            self.argv += ["--set", setting]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Raises ServiceError, with the log, unless it is ready in time."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.argv, "serve"], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.wait_ready()

    def wait_ready(self, within: float = READY_WITHIN) -> None:
        deadline = time.monotonic() + within
        # One client: each makes a TLS context, which an emulated machine takes a second for.
        with httpx.Client(base_url=self.url, timeout=5) as client:
            while time.monotonic() < deadline:
                if self._alive() is None:
                    raise ServiceError(f"the service ended while it started\n{self.tail()}")
                try:
                    if client.get("/readyz").status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.05)
        raise ServiceError(f"the service was not ready within {within} s\n{self.tail()}")

    def _alive(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def pid(self) -> int:
        """The supervisor's."""
        alive = self._alive()
        if alive is None:
            raise ServiceError(f"the service has ended\n{self.tail()}")
        return alive

    def role(self, name: str) -> int | None:
        """pid of one of ROLES now, or None while there is none."""
        for pid in host.descendants(self.pid):
            argv = host.argv(pid)
            if host.parent(pid) == self.pid and argv and name == _role(argv):
                return pid
        return None

    def pids(self) -> dict[str, int]:
        found = {name: self.role(name) for name in ROLES}
        return {"supervisor": self.pid} | {name: pid for name, pid in found.items() if pid}

    @property
    def sandbox_uids(self) -> range:
        """Every uid that a sandbox of it may have. A used one comes round again after all others."""
        return range(self.uid_base, self.uid_base + UID_SPAN)

    def sandbox_processes(self) -> list[int]:
        found = host.processes_of_uids(self.sandbox_uids)
        return [pid for pid in found if not host.belongs_elsewhere(pid, self.instance)]

    def crash(self) -> None:
        """`kill -9` of the supervisor; returns when it is gone. `start` may follow."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def stop(self) -> list[str]:
        """Ends it by SIGTERM. What it left behind, in words."""
        process = self._process
        if process is None:
            return []
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            self._kill()
            return [f"it did not stop within {STOPPED_WITHIN} s of SIGTERM", *self.leftovers()]
        ended = [] if code == 0 else [f"it ended with {code}\n{self.tail()}"]
        return ended + self.leftovers()

    def leftovers(self) -> list[str]:
        strays = sorted({*self.sandbox_processes(), *host.processes_of_word(self.instance)})
        netns = Path("/run/netns")
        named = list(netns.glob(f"*{self.instance}*")) if netns.is_dir() else []
        return [
            # A zombie by now is its new parent's, the host's init, and holds nothing.
            *[
                f"process {pid} {host.argv(pid)} in state {state}"
                for pid in strays
                if (state := host.state(pid)) not in (None, "X", "Z")
            ],
            *[f"cgroup {path}" for path in host.cgroups(self.instance)],
            *[f"mount {line}" for line in host.mounts(self.instance)],
            *[f"network namespace {path}" for path in named],
        ]

    def tail(self, lines: int = 60) -> str:
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _kill(self) -> None:
        """Ends what this object started, since it did not end by itself."""
        if self._process is not None and self._process.poll() is None:
            for pid in [*host.descendants(self._process.pid), self._process.pid]:
                _end(pid)
            self._process.wait()


def _free_block() -> tuple[int, int]:
    """The number of a block of uids, and a descriptor that has it locked. Several test sessions
    may run at once, and each looks for leftovers by uid."""
    _LOCKS.mkdir(exist_ok=True)
    first = secrets.randbelow(BLOCKS)
    for block in (*range(first, BLOCKS), *range(first)):
        lock = os.open(_LOCKS / str(block), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return block, lock
    raise ServiceError(f"{BLOCKS} services are running")


@contextmanager
def running(*settings: str) -> Iterator[Service]:
    """A service for the block. Raises ServiceError if it leaves anything behind."""
    # The gateway's and the queue's own users have to get through, which pytest's tmp_path forbids.
    directory = Path(tempfile.mkdtemp(prefix="sandboxd-test-"))
    directory.chmod(0o711)
    service = Service(directory, *settings)
    try:
        service.start()
        yield service
    except BaseException as error:
        error.add_note(f"log of the service:\n{service.tail()}")
        service.stop()
        raise
    else:
        left = service.stop()
        if left:
            raise ServiceError("left behind:\n" + "\n".join(left) + "\n" + service.tail())
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _role(argv: list[str]) -> str | None:
    program = Path(argv[0]).name
    if program.startswith(("redis", "valkey")):
        return "redis"
    return next((name for name in ROLES if name in argv), None)


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
