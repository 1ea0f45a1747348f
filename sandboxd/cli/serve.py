"""`sandboxd serve`: the whole service on one machine, under one supervisor.

It starts the private Redis unless there is another, then the node as root and the gateway, which
gives root away by itself; starts again what dies; and on SIGTERM or SIGINT stops gateway, node and
Redis in this order, so that nobody works for an answer that cannot be given. A second signal stops
them at once. SIGHUP has the keys and the policies of networks read again, unless it says that the
terminal it was started from is gone: then it stops. However the supervisor itself ends, its children
end with it.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

import click

from sandboxd import __version__, keeper
from sandboxd.child import Child, spawn
from sandboxd.cli.supervision import Process, Supervised
from sandboxd.errors import Conflict, SandboxdError, Unavailable
from sandboxd.queue import Queue, embedded
from sandboxd.settings import Settings, SettingsError

_GRACE = 10.0
_READY_FD = "SANDBOXD_READY_FD"
_LOOK = 0.05


@click.command("serve")
@click.pass_context
def command(context: click.Context) -> None:
    """Run the whole service on this machine: queue, node and gateway. Needs root."""
    settings: Settings = context.obj
    logging.basicConfig(
        level=settings.log_level.upper(),
        stream=sys.stderr,
        format="%(levelname)s serve: %(message)s",
    )
    if os.geteuid() != 0:
        sys.exit(_fail("must be started as root, to make namespaces and control groups", 1))
    try:
        with _only_one(settings):
            code = asyncio.run(serve(settings, context.meta["sandboxd.options"]))
    except (Conflict, OSError) as error:
        code = _fail(str(error), 1)
    sys.exit(code)


async def serve(settings: Settings, config_args: Sequence[str]) -> int:
    """Serve until a signal. `config_args` are the options that led to `settings`, for the children.

    Returns the exit status: 0 after a signal, 2 for settings that make no sense, else 1.
    """
    try:
        return await Supervisor(settings, config_args).run()
    except SettingsError as error:
        return _fail(str(error), 2)
    except (SandboxdError, OSError) as error:
        return _fail(str(error), 1)


class Supervisor:
    """The children of one `serve`, in the order in which they start."""

    def __init__(self, settings: Settings, config_args: Sequence[str]) -> None:
        self._settings = settings
        self._config_args = config_args
        self._settled = asyncio.Event()
        self._children: list[Supervised] = []
        self._gateway_ready = asyncio.Event()
        self._stop, self._hurry = asyncio.Event(), asyncio.Event()
        self._readers: dict[str, Child] = {}
        """Who has read files that may change, as they are now."""
        self._changed = False
        self._on_terminal = os.isatty(0)

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        stopping = asyncio.create_task(self._stop.wait())
        starting = asyncio.create_task(self._start())
        try:
            await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                return 0
            code = starting.result()
            if code == 0:
                await stopping
            return code
        finally:
            starting.cancel()
            stopping.cancel()
            await asyncio.wait([starting, stopping])
            _notify("STOPPING=1")
            await self._stop_all()

    def _signalled(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def _hung_up(self) -> None:
        """Those that are still starting are told when they listen to signals."""
        if self._on_terminal and not os.isatty(0):
            self._signalled()
            return
        self._changed = not self._settled.is_set()
        if not self._changed:
            for child in self._readers.values():
                child.hang_up()

    async def _start(self) -> int:
        """Start everything and say so. 0, or the exit status of a child that refused to start."""
        if not self._settings.redis.url:
            await self._add("redis", partial(embedded.start, self._settings))
        queue = Queue.connect(self._settings)
        try:
            before = await _announced(queue)
            await self._add("keeper", self._spawn_keeper)
            await self._add("node", self._spawn_node)
            await self._add("courier", self._spawn_courier)
            await self._add("gateway", self._spawn_gateway)
            ready = asyncio.create_task(self._until_ready(queue, before))
            ended = [child.ended for child in self._children]
            waiting: list[asyncio.Future[Any]] = [ready, *ended]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            refused = [code.result() for code in ended if code.done()]
            if refused:
                ready.cancel()
                return refused[0]
        finally:
            await queue.close()
        self._settled.set()
        if self._changed:
            self._hung_up()
        click.echo(f"sandboxd {__version__} ready on {_url(self._settings.gateway.listen)}")
        _notify("READY=1")
        return 0

    async def _add(self, name: str, start: Callable[[], Awaitable[Process]]) -> None:
        child = Supervised(name, start, self._settled)
        self._children.append(child)
        await child.start()

    async def _spawn_keeper(self) -> Child:
        """It outlives the node, so that sandboxes can."""
        command = [sys.executable, "-I", "-S", keeper.__file__, str(self._settings.keeper_socket)]
        return await spawn(command, env=_environment())

    async def _spawn_node(self) -> Child:
        self._readers["node"] = await spawn(self._command("node"), env=_environment())
        return self._readers["node"]

    async def _spawn_courier(self) -> Child:
        return await spawn(self._command("courier"), env=_environment())

    async def _spawn_gateway(self) -> Child:
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        asyncio.get_running_loop().add_reader(ours, self._heard, ours)
        try:
            self._readers["gateway"] = await spawn(
                self._command("gateway"),
                env={**_environment(), _READY_FD: str(theirs)},
                descriptors=[theirs],
            )
            return self._readers["gateway"]
        finally:
            os.close(theirs)

    def _heard(self, line: int) -> None:
        if os.read(line, 16):
            self._gateway_ready.set()
        asyncio.get_running_loop().remove_reader(line)
        os.close(line)

    def _command(self, name: str) -> list[str]:
        return [sys.executable, "-m", "sandboxd.cli.main", *self._config_args, name]

    async def _until_ready(self, queue: Queue, before: set[tuple[str, str]]) -> None:
        await self._gateway_ready.wait()
        # A node announces itself in the queue, which gives no event for it.
        while not await _announced(queue) - before:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK)

    async def _stop_all(self) -> None:
        hurry = asyncio.create_task(self._hurry.wait())
        for child in reversed(self._children):
            stopping = asyncio.create_task(child.stop(_GRACE))
            await asyncio.wait([stopping, hurry], return_when=asyncio.FIRST_COMPLETED)
            if not stopping.done():
                stopping.cancel()
                await child.stop(0)
        hurry.cancel()
        self._settings.keeper_socket.unlink(missing_ok=True)


async def _announced(queue: Queue) -> set[tuple[str, str]]:
    """Nodes, each with its start: one that comes back is another."""
    try:
        return {(record.id, record.started_at) for record in await queue.nodes()}
    except Unavailable:
        return set()


@contextlib.contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Raises Conflict if this instance is served already."""
    settings.run_path.mkdir(parents=True, exist_ok=True)
    with (settings.run_path / "serve.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"instance {settings.instance} is already being served") from None
        yield


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}


def _url(listen: str) -> str:
    return listen if listen.startswith("unix:") else f"http://{listen}"


def _notify(state: str) -> None:
    """Tell systemd, if it wants to know (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.sendto(state.encode(), address.replace("@", "\0", 1))


def _fail(text: str, code: int) -> int:
    click.echo(f"sandboxd serve: {text}", err=True)
    return code
