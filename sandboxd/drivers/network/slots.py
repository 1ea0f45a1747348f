"""A slot of `egress`: a namespace with a device, and what its sandbox may do."""

import hashlib
import re

from msgspec import Struct

from sandboxd.drivers.network.addresses import QUARANTINE, Addresses
from sandboxd.drivers.network.firewall import Opening
from sandboxd.drivers.network.macvlan.port import KeptPort, Port
from sandboxd.drivers.network.traces import traces
from sandboxd.model.egress import EgressPolicy

_OBJECTS = re.compile(rb"sockets: used \d+")
"""Sockets of every kind, our own included, which the kernel counts for some moments after their end.
Those that a sandbox can make are each counted by kind as well."""
UNSHAPED: tuple[int | None, int | None] = (None, None)


class KeptSlot(Struct, frozen=True, kw_only=True):
    """What the node after this one has to know of a slot whose sandbox outlives this one."""

    index: int
    addresses: tuple[str, str]
    group: int
    mark: int
    """That connections carry which its policy has let out."""
    policy: EgressPolicy
    network: str
    """Of sandboxes that see one another; empty: it is alone."""
    port: KeptPort | None = None


class EgressSlot(Struct, kw_only=True):
    """A namespace with a device. Made and ended by EgressNetwork alone."""

    fd: int
    addresses: Addresses
    device: int
    """Index of the node's end."""
    made_at: float
    """Seconds of time.monotonic."""
    unused: bytes | None = None
    """Fingerprint of the namespace before its sandbox."""
    group: int = QUARANTINE
    """Offset of the group whose rules hold for it."""
    rates: tuple[int | None, int | None] = UNSHAPED
    """Bytes a second that it may send and get."""
    assignments: int = 0
    """How often it was put under a policy: tells one sandbox's requests from the next one's."""
    openings: list[Opening] = []
    port: Port | None = None
    """On the network of one of the host's interfaces, if it is on one."""
    clean: bool = False
    """Its sandbox is gone and has left nothing in it."""
    kept: KeptSlot | None = None
    """What the node after this one needs; None if it could not go on with it."""


def fingerprint(fd: int) -> bytes | None:
    """A digest of the namespace's traces; None if they tell nothing."""
    found = traces(fd)
    return None if found is None else hashlib.blake2b(_OBJECTS.sub(b"", found)).digest()
