"""Sandboxes for runs that name an image, volumes or data: found, checked against the tenant, built.

An image gets a shelf of the pool when it is first asked for, as long as it is asked for; the shelf's
least and most come with the job where a template of the tenant's says so. With volumes or data the
sandbox is built for the run: what is mounted must be there before the sandbox locks itself down.
"""

import asyncio
import contextlib

import msgspec

from sandboxd.drivers.exec.base import Built, Mount, Spec
from sandboxd.drivers.graph import tenancy
from sandboxd.drivers.graph.image import Image
from sandboxd.drivers.graph.images import Images
from sandboxd.drivers.graph.volumes import Volumes
from sandboxd.errors import InvalidImage
from sandboxd.model import Job
from sandboxd.model.mounts import DataMount, VolumeMount
from sandboxd.node.host import Host
from sandboxd.node.pool import Pool

_IDLE = 300.0
"""Seconds after which the shelf of an image that nobody asks for is given up."""
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
        """Raises UnknownImage, NotFound, InvalidImage or Conflict for what the tenant may not or
        cannot have; SystemFault or Overload as the pool."""
        request = job.request
        if request.image is None or request.volumes or request.data or request.network != "none":
            spec = await asyncio.to_thread(self._fitted, job)
            try:
                return await self._pool.make(spec)
            finally:
                if spec.image.hold is not None and request.image is not None:
                    await asyncio.to_thread(spec.image.hold.drop)
        shelf = await self._shelf(job, request.image)
        return await self._pool.claim(shelf)

    def check(
        self, tenant: str, image: str | None, volumes: list[VolumeMount], data: list[DataMount]
    ) -> None:
        """Raises what `claim` would, as far as it can be known before. Blocks."""
        if image is not None:
            tenancy.resolve(self._images, tenant, image)
        self._mounts(tenant, volumes, data)

    @property
    def _images(self) -> Images:
        return self._host.graph.images

    @property
    def _volumes(self) -> Volumes:
        return self._host.volumes

    async def _shelf(self, job: Job, name: str) -> str:
        """The shelf of an image, there from now on."""
        digest = await asyncio.to_thread(tenancy.resolve, self._images, job.tenant, name)
        shelf = f"{job.template}@{digest}"
        least, most = (job.pool.min, job.pool.max) if job.pool else (0, _MOST)
        async with self._lock:
            if not self._pool.has(shelf):
                image = await asyncio.to_thread(self._host.rootfs.image, digest)
                self._held[shelf] = image
                spec = msgspec.structs.replace(
                    self._host.specs[job.template], template=shelf, image=image
                )
                self._pool.stock(spec, least, most)
            elif job.pool is not None:
                self._pool.bounds(shelf, least, max(least, most))
        self._postpone(shelf, least)
        return shelf

    def _postpone(self, shelf: str, least: int) -> None:
        if shelf in self._timers:
            self._timers.pop(shelf).cancel()
        if least == 0:
            loop = asyncio.get_running_loop()
            self._timers[shelf] = loop.call_later(_IDLE, self._forget, shelf)

    def _forget(self, shelf: str) -> None:
        self._timers.pop(shelf, None)
        if not self._pool.forget(shelf):
            self._postpone(shelf, 0)
            return
        hold = self._held.pop(shelf).hold
        if hold is not None:
            asyncio.get_running_loop().run_in_executor(None, hold.drop)

    def _fitted(self, job: Job) -> Spec:
        spec = self._host.specs[job.template]
        request = job.request
        if request.network != "none" and self._host.networks is not None:
            spec = self._host.networks.spec(spec)
        mounts = self._mounts(job.tenant, request.volumes, request.data)
        image = spec.image
        if request.image is not None:
            digest = tenancy.resolve(self._images, job.tenant, request.image)
            image = self._host.rootfs.image(digest)
        limits = job.limits
        return msgspec.structs.replace(
            spec, image=image, mounts=mounts, memory=limits.memory, pids=limits.pids,
            disk=limits.disk,
        )  # fmt: skip

    def _mounts(
        self, tenant: str, volumes: list[VolumeMount], data: list[DataMount]
    ) -> tuple[Mount, ...]:
        found = []
        for volume in volumes:
            record = self._volumes.get(tenant, volume.name)
            source = self._volumes.source(record, read_only=volume.read_only)
            found.append(Mount(volume.path, source))
        for each in data:
            digest = tenancy.resolve(self._images, tenant, each.digest)
            layers = self._images.details(digest).manifest.layers
            if len(layers) != 1:
                raise InvalidImage(f"{digest}: data is an image of one layer, not {len(layers)}")
            path = self._images.layers.path(layers[0].digest)
            found.append(Mount(each.path, self._host.data_source(path, digest)))
        return tuple(found)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        for image in self._held.values():
            if image.hold is not None:
                with contextlib.suppress(Exception):
                    image.hold.drop()
