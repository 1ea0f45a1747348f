"""Snapshots of sandboxes that live: what a session's file system has become is an image afterwards."""

from sandboxd.drivers.exec.base import Built
from sandboxd.drivers.graph import tenancy
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.snapshot import snapshot
from sandboxd.errors import Conflict, DriverFault

_SETTLES_WITHIN = 5.0


def take(
    graph: Graph, built: Built, *, tenant: str, name: str | None, note: str, paused: bool = False
) -> tuple[str, int]:
    """The digest of an image of what `built` has on its file system now, and the new layer's bytes: 0,
    and the digest of its own image, if nothing has changed.

    Freezes the sandbox for the time of it unless it is `paused` already. The image is called `name`
    among the tenant's; without one a lease of this process' keeps it. Blocks: 10 MB of changes take some
    20 ms. What is not yet on the disk is when `graph.store.settle()` returns, which is for later. Raises
    Conflict for a sandbox on the host's own files, InvalidImage for a tree that cannot be a layer,
    DriverFault.
    """
    base = built.spec.image.digest
    if not base:
        raise Conflict("a sandbox on the host's own files has no image to be a snapshot of")
    stored = tenancy.stored_name(tenant, name) if name is not None else None
    lease = graph.store.lease(base)
    kept = False
    try:
        if not paused:
            built.group.freeze(True)
            if not built.group.settled(True, _SETTLES_WITHIN):
                raise DriverFault("graph", "take a snapshot", "the sandbox does not stand still")
        try:
            digest = snapshot(graph.images, lease, base, built.native.scratch, built.uid, note)
        finally:
            if not paused:
                built.group.freeze(False)
        if stored is not None:
            graph.store.tag(stored, digest)
        kept = stored is None and digest != base
    finally:
        if not kept:
            lease.release()
    if digest == base:
        return digest, 0
    return digest, graph.images.details(digest).manifest.layers[-1].size
