"""What an instance holds of its host, counted when nothing runs."""

import asyncio
from dataclasses import dataclass

from tests.service import host
from tests.service.instance import Service

CALM_WITHIN = 45.0
LOOK_EVERY = 0.25
LOOKS = 5
"""Equal looks in a row that make calm: the pool is full again and nothing is being taken down."""


@dataclass(frozen=True)
class Footprint:
    cgroups: int
    mounts: int
    """Of the sandboxes, and of the instance on the host."""
    namespaces: int
    sandbox_processes: int
    orphans: int
    """Sandbox processes that do not descend from the node."""
    service_processes: int
    fds: dict[str, int]


def footprint(service: Service) -> Footprint:
    """Raises KeyError while there is no node."""
    roles = service.pids()
    sandboxes = set(service.sandbox_processes())
    family = {service.pid, *host.descendants(service.pid)}
    return Footprint(
        cgroups=len(host.cgroups(service.instance)),
        mounts=host.private_mounts([*(family | sandboxes)]) + len(host.mounts(service.instance)),
        namespaces=len(host.namespaces([*(family | sandboxes)])),
        sandbox_processes=len(sandboxes),
        orphans=len(sandboxes - set(host.descendants(roles["node"]))),
        service_processes=len(family - sandboxes),
        fds={name: host.fds(pid) for name, pid in roles.items()},
    )


async def calm(service: Service) -> Footprint:
    """The footprint once it no longer changes. Raises TimeoutError, telling the last one."""
    last: Footprint | None = None
    equal = 0
    try:
        async with asyncio.timeout(CALM_WITHIN):
            while equal < LOOKS:
                now = await asyncio.to_thread(footprint, service)
                last, equal = now, equal + 1 if now == last else 0
                await asyncio.sleep(LOOK_EVERY)
    except TimeoutError as error:
        error.add_note(f"it still changes: {last}")
        raise
    assert last is not None
    return last
