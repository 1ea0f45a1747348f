"""The courier process: no listener, no root, the queue on one side and the world on the other.

It is confined as the gateway is, by the same filter and one more, under a user of its own. It has to call
whom tenants name, so that no port is closed to it; whom it calls, `delivery` decides.
"""

import asyncio
import logging
import signal
import sys

import uvloop
from msgspec import Struct

from sandboxd.gateway import confinement, privileges
from sandboxd.gateway.courier.delivery import Courier
from sandboxd.queue import Queue
from sandboxd.queue.store import Store
from sandboxd.settings import Settings, SettingsError


class Filters(Struct, frozen=True, kw_only=True):
    """Seccomp programs (arrays of struct sock_filter), loaded in this order."""

    always: bytes
    """From `gateway.json`."""
    calling: bytes
    """From `courier.json`: no listener at all."""


def main(settings: Settings, filters: Filters) -> int:
    """Deliver until SIGTERM or SIGINT. Returns the exit status: 2 for settings that make no sense."""
    logging.basicConfig(
        level=settings.log_level.upper(),
        stream=sys.stderr,
        format="%(levelname)s courier: %(message)s",
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        confine(settings, filters)
    except SettingsError as error:
        print(f"sandboxd courier: {error}", file=sys.stderr)
        return 2
    uvloop.run(_run(settings))
    return 0


def confine(settings: Settings, filters: Filters) -> None:
    """Give up root and what delivering does not need. Raises as `confinement.confine`."""
    privileges.drop(settings.courier.uid, settings.gateway.uid, who="courier")
    programs = [filters.always, filters.calling]
    confinement.give_up("courier", settings, confinement.installed(), programs, ports=None)


async def _run(settings: Settings) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    queue, store = Queue.connect(settings), Store(settings)
    delivering = asyncio.create_task(Courier(queue, store, settings.judge).run())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({delivering, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (delivering, stopping):
        task.cancel()
    outcomes = await asyncio.gather(delivering, stopping, return_exceptions=True)
    await queue.close()
    await store.close()
    if isinstance(outcomes[0], Exception):
        raise outcomes[0]
