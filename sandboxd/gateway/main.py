"""The gateway process: takes what it needs as root, gives root away, serves."""

import asyncio
import contextlib
import gc
import importlib
import logging
import os
import resource
import signal
import socket
import sys
from functools import partial
from types import ModuleType

import uvloop

from sandboxd import policy
from sandboxd.errors import Unavailable
from sandboxd.gateway import adapters, confinement, listening, privileges
from sandboxd.gateway.adapters import Fronts
from sandboxd.gateway.app import build_app
from sandboxd.gateway.auth import Keys
from sandboxd.gateway.confinement import Filters
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.forwarding import names
from sandboxd.gateway.server import Server, configure
from sandboxd.policy import Policies
from sandboxd.queue import Queue
from sandboxd.settings import Settings, SettingsError

log = logging.getLogger(__name__)

READY_FD = "SANDBOXD_READY_FD"
"""Environment variable: the file descriptor that gets `ready` and a newline, once."""


def main(settings: Settings, filters: Filters) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status: 2 for settings that make no sense."""
    logging.basicConfig(level=settings.log_level.upper(), stream=sys.stderr)
    # Its warnings are about malformed requests: strangers would write our log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    try:
        address = listening.parse(settings.gateway.listen)
        keys = Keys(settings.gateway.keys_file)
        listening.check_exposure(address, keys.required)
        policies = policy.load(settings.policy_path, settings.network)
        _raise_file_limit()
        listeners = [listening.bind(address, settings.gateway.uid)]
        fronts = _fronts(settings, keys, listeners)
        hosts = adapters.hosts(settings.adapters)
        names.site(settings.gateway.ports_url)
        mcp = _mcp() if settings.gateway.mcp else None
        privileges.drop(settings.gateway.uid)
        keys.check_readable()
        confinement.confine(settings, filters)
    except SettingsError as error:
        print(f"sandboxd gateway: {error}", file=sys.stderr)
        return 2
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, policies, keys, listeners, fronts, hosts, filters, mcp))
    return 0


def _fronts(settings: Settings, keys: Keys, listeners: list[socket.socket]) -> dict[str | int, str]:
    """Binds the adapters' own listeners. Whose they are, by port or path. Raises SettingsError."""
    fronts: dict[str | int, str] = {}
    for name in settings.adapters.enabled:
        if name not in adapters.NAMES:
            raise SettingsError(f"adapters.enabled: there is no adapter {name}")
        listen = getattr(settings.adapters, f"{name}_listen")
        if listen:
            address = listening.parse(listen)
            listening.check_exposure(address, keys.required)
            listeners.append(listening.bind(address, settings.gateway.uid))
            fronts[address.path or listeners[-1].getsockname()[1]] = name
    return fronts


async def _serve(
    settings: Settings,
    policies: Policies,
    keys: Keys,
    listeners: list[socket.socket],
    fronts: dict[str | int, str],
    hosts: dict[str, str],
    filters: Filters,
    mcp: ModuleType | None,
) -> None:
    queue = Queue.connect(settings)
    gateway = Gateway(settings, policies, queue, keys)
    tools = None if mcp is None else mcp.Endpoint(settings.gateway.max_body)
    app = build_app(gateway, *([] if tools is None else [tools.route]))
    server = Server(
        configure(Fronts(app, fronts, hosts, adapters.site(settings)), settings.gateway),
        gateway.close,
        partial(confinement.end_listening, filters),
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, gateway.reload)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(queue.close)
        await stack.enter_async_context(gateway.running())
        if tools is not None:
            tools.app = app
            await stack.enter_async_context(tools.running())
        ready = asyncio.create_task(_announce(server, queue))
        stack.callback(ready.cancel)
        await server.serve(sockets=listeners)


def _mcp() -> ModuleType:
    """Before there is a confinement: its libraries bring native code. Raises SettingsError."""
    try:
        return importlib.import_module("sandboxd.gateway.mcp")
    except ImportError as error:
        raise SettingsError(f"gateway.mcp needs the extra sandboxd[mcp]: {error}") from None


async def _announce(server: Server, queue: Queue) -> None:
    """Tell the supervisor when requests would be served."""
    await server.listening.wait()
    pause = 0.02
    while True:
        try:
            await queue.ping()
            break
        except Unavailable:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)
    gc.freeze()  # What is there by now stays: a full collection of it stops every request.
    log.info("ready")
    number = os.environ.get(READY_FD)
    if number is not None:
        os.write(int(number), b"ready\n")
        os.close(int(number))


def _raise_file_limit() -> None:
    """Each connection is a file, and the default of 1,024 is below `max_connections`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
