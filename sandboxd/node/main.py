"""The node process: builds its drivers, sweeps, fills the pool, works until told to stop."""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from datetime import UTC, datetime

from sandboxd import __version__
from sandboxd.errors import Overload, SandboxdError, SystemFault, Unavailable
from sandboxd.model import NodeRecord
from sandboxd.model.session import EndReason
from sandboxd.node.agent import Agent
from sandboxd.node.capacity import Capacity
from sandboxd.node.fitting import Fitter
from sandboxd.node.host import Host
from sandboxd.node.image_watch import follow_images, tend_images
from sandboxd.node.images_service import ImagesService
from sandboxd.node.judging import Judge
from sandboxd.node.judging.artifacts import host_packages, toolchain
from sandboxd.node.library import Library
from sandboxd.node.network_audit import NetworkAudit
from sandboxd.node.pool import Pool
from sandboxd.node.sessions.registry import Registry
from sandboxd.node.sessions.server import Server
from sandboxd.node.worker import Worker
from sandboxd.queue import Queue
from sandboxd.queue.network_records import NetworkRecords
from sandboxd.queue.sessions import Sessions
from sandboxd.queue.store import Store
from sandboxd.settings import Settings

log = logging.getLogger(__name__)

_DRAIN_GRACE = 5.0
_PAGE = os.sysconf("SC_PAGE_SIZE")
_POOL_SHARE = 8
"""Of the node's memory, one part is for sandboxes that demand alone keeps ahead."""


def main(settings: Settings) -> int:
    """Run the node until SIGTERM or SIGINT. Returns the exit code."""
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(levelname)s node: %(message)s",
        stream=sys.stderr,
    )
    if os.geteuid() != 0:
        print("sandboxd node: needs root, to make namespaces and control groups", file=sys.stderr)
        return 1
    try:
        import uvloop

        return uvloop.run(_run(settings))
    except SandboxdError as error:
        print(f"sandboxd node: {error}", file=sys.stderr)
        return 1


async def _run(settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    changed = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, changed.set)
    host = await asyncio.to_thread(Host, settings)
    node = settings.node_name
    queue, store = Queue.connect(settings), Store(settings)
    await _recover(queue, node)
    pool = Pool(
        host.driver,
        concurrency=settings.node.build_concurrency,
        max_age=settings.node.pool_max_age,
        room=_capacity(settings).memory // _POOL_SHARE,
    )
    for kept in host.shelves():
        pool.stock(kept.spec, kept.least, max(kept.least, kept.most))
    fitter = Fitter(host, pool)
    packages = await asyncio.to_thread(host_packages)
    worker = Worker(
        queue,
        pool,
        host.policies,
        _capacity(settings),
        node=node,
        lease=settings.queue.lease,
        collect_max=settings.node.collect_max,
        networks=host.networks,
        fitter=fitter,
        judge=Judge(
            queue,
            store,
            host.policies,
            pool,
            settings.judge,
            node=node,
            toolchain=lambda template: toolchain(host.specs[template].image, packages),
        ),
    )
    directory, records = Sessions(settings), NetworkRecords(settings)
    registry = Registry(
        settings.sessions,
        host,
        pool,
        fitter,
        directory,
        node=node,
        address=f"unix:{settings.node_socket}",
        keeper=settings.keeper_socket,
        audit=NetworkAudit(records),
    )
    await registry.start()
    agent = Agent(worker.live, Server(registry))
    await agent.listen(settings.node_socket, settings.gateway.uid)
    images = ImagesService(
        Library(host, settings.graph, settings.quotas),
        fitter,
        node=node,
        builds=settings.graph.builds,
    )
    await images.listen(settings.images_socket, settings.gateway.uid)
    announcer = Announcer(settings, queue, host, pool, worker, node)
    loops = (
        worker.run(),
        announcer.run(),
        follow_images(host, pool),
        tend_images(host.graph.store, settings.graph.collect_every),
        registry.run(),
    )
    tasks = [asyncio.create_task(coroutine) for coroutine in loops]
    guarding = None if host.networks is None else asyncio.create_task(host.networks.run(changed))
    waiting = asyncio.create_task(stop.wait())
    gc.freeze()  # What is there by now stays: a full collection of it stops every run for 40 ms.
    log.info("ready: %s, layers %s", host.cgroups.kind, " ".join(sorted(host.layers)))
    await asyncio.wait([*tasks, waiting], return_when=asyncio.FIRST_COMPLETED)
    failed = [task.exception() for task in tasks if task.done()]
    await worker.drain(_DRAIN_GRACE)
    for task in (*tasks, waiting):
        task.cancel()
    await asyncio.gather(*tasks, waiting, return_exceptions=True)
    await agent.close()
    await images.close()
    fitter.close()
    await registry.end_all(EndReason.NODE_STOPPED)
    await directory.close()
    await records.close()
    await pool.close()
    if guarding is not None:
        guarding.cancel()
        await asyncio.gather(guarding, return_exceptions=True)
    await queue.close()
    await store.close()
    await asyncio.to_thread(host.close)
    if failed:
        raise SystemFault("a loop of the node ended") from failed[0]
    return 0


async def _recover(queue: Queue, node: str) -> None:
    """Settle what this node held before it restarted; Redis may still be on its way up."""
    pause = 0.05
    while True:
        try:
            requeued, lost = await queue.recover(node)
        except Unavailable:
            await asyncio.sleep(pause)
            pause = min(2.0, pause * 2)
            continue
        if requeued or lost:
            log.warning("after a restart: %d jobs requeued, %d lost", requeued, lost)
        return


class Announcer:
    """Tells the queue every few seconds that this node lives, and what it has."""

    def __init__(
        self, settings: Settings, queue: Queue, host: Host, pool: Pool, worker: Worker, node: str
    ) -> None:
        self._settings, self._queue, self._host = settings, queue, host
        self._pool, self._worker, self._node = pool, worker, node
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self._languages = [language.name for language in host.languages()]

    async def run(self) -> None:
        heartbeat = self._settings.node.heartbeat
        while True:
            try:
                await self._queue.announce(self.record(), heartbeat * 4)
            except (Unavailable, Overload) as error:
                log.warning("not announced: %s", error)
            await asyncio.sleep(heartbeat)

    def record(self) -> NodeRecord:
        capacity, pool = self._worker.capacity, self._pool
        counters = {
            "sandboxd_node_sandboxes_built_total": float(pool.built),
            "sandboxd_node_build_seconds_total": pool.build_seconds,
            "sandboxd_node_build_failures_total": float(pool.build_failures),
            "sandboxd_node_cold_claims_total": float(pool.cold_claims),
            "sandboxd_node_cpu_seconds_total": time.process_time(),
        }
        for status, count in self._worker.finished.items():
            counters[f"sandboxd_node_runs_{status}_total"] = float(count)
        return NodeRecord(
            id=self._node,
            address=f"unix:{self._settings.node_socket}",
            started_at=self._started_at,
            version=__version__,
            isolation=sorted(self._host.layers),
            languages=self._languages,
            cpu_capacity=capacity.cpu,
            cpu_reserved=capacity.cpu_reserved,
            memory_capacity=capacity.memory,
            memory_reserved=capacity.memory_reserved,
            pools=pool.warm(),
            running=self._worker.running,
            counters=counters,
        )


def _capacity(settings: Settings) -> Capacity:
    cores = settings.node.cpu_capacity or 2.0 * len(os.sched_getaffinity(0))
    memory = settings.node.memory_capacity or os.sysconf("SC_PHYS_PAGES") * _PAGE * 3 // 4
    return Capacity(cpu=round(cores * 1000), memory=memory)
