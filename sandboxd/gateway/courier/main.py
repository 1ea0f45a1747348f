"""The courier process: no listener, no root, the queue on one side and the world on the other."""

import asyncio
import logging
import signal
import sys

import uvloop

from sandboxd.gateway import privileges
from sandboxd.gateway.courier.delivery import Courier
from sandboxd.queue import Queue
from sandboxd.queue.store import Store
from sandboxd.settings import Settings, SettingsError


def main(settings: Settings) -> int:
    """Deliver until SIGTERM or SIGINT. Returns the exit status: 2 for settings that make no sense."""
    logging.basicConfig(
        level=settings.log_level.upper(),
        stream=sys.stderr,
        format="%(levelname)s courier: %(message)s",
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        privileges.drop(settings.gateway.uid)
    except SettingsError as error:
        print(f"sandboxd courier: {error}", file=sys.stderr)
        return 2
    uvloop.run(_run(settings))
    return 0


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
