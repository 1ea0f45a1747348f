"""A private instance of the service, for as long as the bench runs."""

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from loadtest.peers.http import Server, await_ready

COMMAND = (sys.executable, "-m", "sandboxd.cli.main")
_ROOT = Path(__file__).parent.parent
_READY, _STOP = 60.0, 30.0


class ServiceError(Exception):
    """The private service did not start, or did not stop cleanly; the text has its last words."""


class Service(Struct, frozen=True):
    server: Server
    pid: int
    """Its first process; the others are its children."""
    instance: str


@asynccontextmanager
async def private(command: Sequence[str] | None = None) -> AsyncIterator[Service]:
    """Starts `command --set … serve` on a free port in its own directories, stops it at the end.

    `command` is COMMAND unless given.

    Raises ServiceError.
    """
    directory = _directory()
    log = directory / "log"
    port = _free_port()
    instance = f"bench-{os.getpid()}"
    settings = {
        "instance": instance,
        "run_dir": str(directory / "run"),
        "state_dir": str(directory / "state"),
        "gateway.listen": f"127.0.0.1:{port}",
        "log_level": "warning",
    }
    flags = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SANDBOXD_")}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(command or COMMAND), *flags, "serve",
            cwd=_ROOT, env=environment, stdin=asyncio.subprocess.DEVNULL,
            stdout=output, stderr=output,
        )  # fmt: skip
    try:
        server = Server(host="127.0.0.1", port=port)
        await _started(process, server, log)
        yield Service(server, process.pid, instance)
    finally:
        forced = await _stop(process)
        last_words = _tail(log)
        _remove(directory)
    if forced:
        raise ServiceError(f"the service did not stop within {_STOP:g} s\n{last_words}")


async def _started(process: asyncio.subprocess.Process, server: Server, log: Path) -> None:
    """Returns when it is ready; ends early if the process does."""
    ready = asyncio.create_task(await_ready(server, _READY))
    ended = asyncio.create_task(process.wait())
    try:
        await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            raise ServiceError(f"the service ended with {process.returncode}\n{_tail(log)}")
        try:
            await ready
        except TimeoutError as error:
            raise ServiceError(f"{error}\n{_tail(log)}") from error
    finally:
        ready.cancel()
        ended.cancel()
        await asyncio.gather(ready, ended, return_exceptions=True)


async def _stop(process: asyncio.subprocess.Process) -> bool:
    """True if it had to be killed."""
    if process.returncode is not None:
        return False
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        return True
    return False


def _directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="sandboxd-bench-"))
    directory.chmod(0o755)  # the gateway's own uid must reach its sockets
    return directory


def _remove(directory: Path) -> None:
    """Deletes it, unless something is still mounted below: a bind mount would be emptied with it.

    Raises ServiceError in that case.
    """
    left = [
        mount
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if Path(mount := line.split()[4]).is_relative_to(directory)
    ]
    if left:
        raise ServiceError(f"the service left {len(left)} mounts, the first at {left[0]}")
    shutil.rmtree(directory)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])
