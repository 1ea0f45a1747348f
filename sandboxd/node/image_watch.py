"""Follows the names of the image store: new sandboxes are of what an image's name means now."""

import asyncio
import logging
import os

from sandboxd.drivers.graph import syscalls
from sandboxd.drivers.graph.collection import collect
from sandboxd.drivers.graph.store import Store
from sandboxd.errors import SandboxdError
from sandboxd.node.host import Host
from sandboxd.node.pool import Pool

log = logging.getLogger(__name__)


async def tend_images(store: Store, every: float) -> None:
    """Collect garbage every so many seconds, until cancelled: tenants make it without an operator."""
    while True:
        await asyncio.sleep(every)
        try:
            garbage = await asyncio.to_thread(collect, store)
        except (SandboxdError, OSError) as error:
            log.error("garbage was not collected: %s", error)
        else:
            if garbage.blobs:
                log.info("removed %d blobs, %d bytes", len(garbage.blobs), garbage.bytes)


async def follow_images(host: Host, pool: Pool) -> None:
    """Until cancelled. What cannot be used is reported, and the old meaning stays."""
    loop = asyncio.get_running_loop()
    news = asyncio.Event()
    fd = syscalls.watch_writes(str(host.image_changes))

    def written() -> None:
        os.read(fd, 65_536)
        news.set()

    loop.add_reader(fd, written)
    try:
        while True:
            await news.wait()
            news.clear()
            try:
                for kept in await asyncio.to_thread(host.refresh):
                    log.info("template %s: image %s", kept.spec.template, kept.spec.image.digest)
                    pool.renew(kept.spec, kept.least)
                # A snapshot has a name, but is not on the disk yet.
                await asyncio.to_thread(host.graph.store.settle)
            except SandboxdError as error:
                log.error("an image's new meaning cannot be used: %s", error)
    finally:
        loop.remove_reader(fd)
        os.close(fd)
