"""Sandboxes that have an image, volumes or data of a tenant's: found, checked against it, built.

An image gets a shelf of the pool when it is first asked for, as long as it is asked for; the shelf's
least and most come with the job where a template of the tenant's says so. With volumes or data the
sandbox is built for its one use: what is mounted must be there before it locks itself down.
"""

import asyncio
import contextlib

import msgspec

from sandboxd.drivers.exec.base import Built, Spec
from sandboxd.drivers.graph import tenancy
from sandboxd.drivers.graph.image import Image
from sandboxd.drivers.graph.images import Images
from sandboxd.model import Job
from sandboxd.model.agent import Create
from sandboxd.model.mounts import DataMount, VolumeMount
from sandboxd.model.stored import PoolBounds
from sandboxd.node.host import Host
from sandboxd.node.pool import Pool
from sandboxd.node.warmth import network_shelf

_IDLE = 300.0
"""Seconds after which the shelf of an image that nobody asks for is given up."""
_WISHED_IDLE = 3600.0
"""The same of one on which its tenant wants some at all times: its template may be gone."""
_MOST = 8
"""Sandboxes kept ahead of an image that no template of the tenant's names."""


def special(job: Job) -> bool:
    """Whether a job's program needs more than a template of the operator's."""
    request = job.request
    return request.image is not None or bool(request.volumes) or bool(request.data)


class Fitter:
    def __init__(self, host: Host, pool: Pool) -> None:
        self._host, self._pool = host, pool
        self._lock = asyncio.Lock()
        self._held: dict[str, Image] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    async def claim(self, job: Job) -> Built:
        """For a run. Raises UnknownImage, NotFound, InvalidImage or Conflict for what the tenant may
        not or cannot have; SystemFault or Overload as the pool."""
        request, limits, networked = job.request, job.limits, job.request.network != "none"
        if request.image is not None and not (request.volumes or request.data or networked):
            shelf = await self._shelf(job.tenant, job.template, request.image, job.pool)
            return await self._pool.claim(shelf)
        spec = msgspec.structs.replace(
            self._spec(job.template, networked),
            memory=limits.memory, pids=limits.pids, disk=limits.disk,
        )  # fmt: skip
        return await self._make(job.tenant, spec, request.image, request.volumes, request.data)

    async def open(self, call: Create, template: str) -> Built:
        """For a sandbox that lives, whatever it asks for. Raises as `claim`."""
        request, networked = call.request, call.request.network != "none"
        if not request.volumes and not request.data:
            if request.image is None:
                return await self._pool.claim(network_shelf(template) if networked else template)
            if not networked:
                shelf = await self._shelf(call.tenant, template, request.image, call.pool)
                return await self._pool.claim(shelf)
        spec = self._spec(template, networked)
        return await self._make(call.tenant, spec, request.image, request.volumes, request.data)

    def _spec(self, template: str, networked: bool) -> Spec:
        spec = self._host.specs[template]
        if networked and self._host.networks is not None:
            return self._host.networks.spec(spec)
        return spec

    async def _make(
        self,
        tenant: str,
        spec: Spec,
        image: str | None,
        volumes: list[VolumeMount],
        data: list[DataMount],
    ) -> Built:
        fitted = await asyncio.to_thread(self._fitted, tenant, spec, image, volumes, data)
        try:
            return await self._pool.make(fitted)
        finally:
            if image is not None and fitted.image.hold is not None:
                await asyncio.to_thread(fitted.image.hold.drop)  # the sandbox has its own

    def check(
        self, tenant: str, image: str | None, volumes: list[VolumeMount], data: list[DataMount]
    ) -> None:
        """Raises what `claim` would, as far as it can be known before. Blocks."""
        if image is not None:
            tenancy.resolve(self._images, tenant, image)
        self._host.mounts.of(tenant, volumes, data)

    @property
    def _images(self) -> Images:
        return self._host.graph.images

    async def _shelf(self, tenant: str, template: str, name: str, pool: PoolBounds | None) -> str:
        """The shelf of an image under a template, there from now on; the tenant's alone if it says
        how many are to be on it."""
        digest = await asyncio.to_thread(tenancy.resolve, self._images, tenant, name)
        shelf = f"{template}@{digest}" + (f"/{tenant}" if pool else "")
        wish, most = (pool.min, pool.max) if pool else (0, _MOST)
        async with self._lock:
            if not self._pool.has(shelf):
                image = await asyncio.to_thread(self._host.rootfs.image, digest)
                self._held[shelf] = image
                spec = msgspec.structs.replace(
                    self._host.specs[template], template=shelf, image=image
                )
                self._pool.stock(spec, 0, most, wish=wish)
            elif pool is not None:
                self._pool.bounds(shelf, wish, most)
        self._postpone(shelf, _WISHED_IDLE if wish else _IDLE)
        return shelf

    def _postpone(self, shelf: str, seconds: float) -> None:
        if shelf in self._timers:
            self._timers.pop(shelf).cancel()
        loop = asyncio.get_running_loop()
        self._timers[shelf] = loop.call_later(seconds, self._forget, shelf)

    def _forget(self, shelf: str) -> None:
        self._timers.pop(shelf, None)
        if not self._pool.forget(shelf):
            self._postpone(shelf, _IDLE)
            return
        hold = self._held.pop(shelf).hold
        if hold is not None:
            asyncio.get_running_loop().run_in_executor(None, hold.drop)

    def _fitted(
        self,
        tenant: str,
        spec: Spec,
        image: str | None,
        volumes: list[VolumeMount],
        data: list[DataMount],
    ) -> Spec:
        """The image, if it is another, is held once for the caller."""
        mounts = self._host.mounts.of(tenant, volumes, data)
        if image is not None:
            digest = tenancy.resolve(self._images, tenant, image)
            spec = msgspec.structs.replace(spec, image=self._host.rootfs.image(digest))
        return msgspec.structs.replace(spec, mounts=mounts)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        for image in self._held.values():
            if image.hold is not None:
                with contextlib.suppress(Exception):
                    image.hold.drop()
