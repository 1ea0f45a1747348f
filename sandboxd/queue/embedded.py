"""The private Redis or Valkey of a service that was not given one.

A child on a unix socket that only root, its own user and the gateway's group can reach. It writes
ahead to an append-only file before it answers, so killing it loses nothing that was accepted. Its
one user may touch the queue's keys and no server command: the gateway parses what strangers send.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from sandboxd.child import Child, spawn
from sandboxd.errors import DriverFault, Unavailable
from sandboxd.queue.connections import Connections
from sandboxd.settings import Settings, SettingsError

log = logging.getLogger(__name__)

_SERVERS = ("valkey-server", "redis-server")
_RULES = "reset on nopass ~sandboxd:* +@all -@admin -@dangerous -@pubsub -function -fcall +info"
_LOCK_PATIENCE = 5.0
"""Seconds that a predecessor which is being killed may take to be gone."""
_LOAD_PATIENCE = 120.0
"""Seconds to read the append-only file back."""
_TAIL = 20


class EmbeddedServer:
    """A running server; `wait` and `stop` are those of a child process."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._tail: deque[str] = deque(maxlen=_TAIL)
        self._logging = asyncio.create_task(self._log())
        self.pid = child.pid

    async def wait(self) -> int:
        code = await self._child.wait()
        await asyncio.wait([self._logging])
        return code

    async def stop(self, grace: float) -> int:
        code = await self._child.stop(grace)
        await asyncio.wait([self._logging])
        return code

    async def until_ready(self, url: str) -> None:
        """Raises DriverFault with the server's last words if it ends instead."""
        connections = Connections(url)
        ended = asyncio.create_task(self.wait())
        pause = 0.005
        try:
            async with asyncio.timeout(_LOAD_PATIENCE):
                while not ended.done():
                    with contextlib.suppress(Unavailable):
                        await connections.call("PING")
                        return
                    await asyncio.wait([ended], timeout=pause)
                    pause = min(pause * 1.5, 0.2)
            raise DriverFault("redis", "start", self.last_words())
        except TimeoutError:
            raise DriverFault("redis", "start", "still loading its data") from None
        finally:
            ended.cancel()
            await connections.close()

    def last_words(self) -> str:
        return " | ".join(list(self._tail)[-3:]) or "it said nothing"

    async def _log(self) -> None:
        assert self._child.output is not None
        async for line in self._child.output:
            text = line.decode(errors="replace").rstrip()
            self._tail.append(text)
            log.debug("redis: %s", text)


async def start(settings: Settings) -> EmbeddedServer:
    """Start the server and return when it answers.

    Raises SettingsError if there is none to start, DriverFault if it does not come up.
    """
    executable = await asyncio.to_thread(_find, settings.redis.server)
    await asyncio.to_thread(_prepare, settings)
    with await _lock(settings.run_path / "redis.lock") as lock:
        child = await spawn(
            [executable, *_arguments(settings)],
            uid=settings.redis.uid if os.geteuid() == 0 else None,
            directory=settings.state_path / "redis",
            env={"LC_ALL": "C"},
            descriptors=[lock],
            read_output=True,
        )
    server = EmbeddedServer(child)
    try:
        await server.until_ready(f"unix://{settings.redis_socket}")
    except BaseException:
        await server.stop(0)
        raise
    return server


def _find(name: str) -> str:
    for candidate in [name] if name else _SERVERS:
        found = shutil.which(candidate)
        if found:
            return found
    wanted = name or " nor ".join(_SERVERS)
    raise SettingsError(f"redis.server: {wanted} not found; install redis-server, or set redis.url")


def _prepare(settings: Settings) -> None:
    """The directories. Their parents stay root's, so that the server's user can swap neither."""
    if len(os.fsencode(settings.redis_socket)) > 107:
        raise SettingsError(f"run_dir: {settings.redis_socket} is too long for a unix socket")
    data, sockets = settings.state_path / "redis", settings.redis_socket.parent
    try:
        data.mkdir(parents=True, exist_ok=True)
        sockets.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(data, settings.redis.uid, settings.redis.uid)
            os.chown(sockets, settings.redis.uid, settings.gateway.uid)
        data.chmod(0o700)
        # The set-group-ID bit gives the socket the gateway's group.
        sockets.chmod(0o2710)
    except OSError as error:
        raise SettingsError(f"{error.filename}: {error.strerror}") from error


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def _lock(path: Path) -> contextlib.AbstractContextManager[int]:
    """A locked descriptor. The server inherits it, so two never share one append-only file."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = asyncio.get_running_loop().time() + _LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _closing(descriptor)
        except BlockingIOError:
            if asyncio.get_running_loop().time() > deadline:
                os.close(descriptor)
                raise DriverFault("redis", "start", "this instance's server already runs") from None
        await asyncio.sleep(0.02)


def _arguments(settings: Settings) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(settings.redis_socket),
        "unixsocketperm": "770",
        "daemonize": "no",
        "dir": "./",
        "databases": "1",
        "loglevel": "warning",
        "save": "",
        "appendonly": "yes",
        "appendfsync": settings.redis.fsync,
        # The data set is small and short-lived against what is appended, so a ratio alone would
        # rewrite, that is fork, all the time.
        "auto-aof-rewrite-percentage": "100",
        "auto-aof-rewrite-min-size": "256mb",
        "maxmemory": str(settings.redis.maxmemory),
        "maxmemory-policy": "noeviction",
        # Each run has an event stream of some 200 bytes; the default allocates 4 KiB for it.
        "stream-node-max-bytes": "256",
    }
    arguments: list[str] = []
    for name, value in options.items():
        arguments += [f"--{name}", value]
    return [*arguments, "--user", "default", *_RULES.split()]
