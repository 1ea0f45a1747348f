"""An egress network for tests: made in the world's `svc`, with a sandbox that is a bare namespace."""

import itertools
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from sandboxd.drivers.network import probe
from sandboxd.drivers.network.egress import EgressNetwork
from sandboxd.drivers.network.slots import EgressSlot
from sandboxd.model.egress import EgressPolicy, EgressRule
from sandboxd.settings import NetworkSettings

ANYWHERE = (EgressRule(cidr="0.0.0.0/0"), EgressRule(cidr="::/0"))
ANY_UDP = (
    EgressRule(cidr="0.0.0.0/0", protocol="udp"),
    EgressRule(cidr="::/0", protocol="udp"),
)


_numbers = itertools.count()
_proved: set[str] = set()


def policy(*allow: EgressRule, **rest: Any) -> EgressPolicy:
    return EgressPolicy(name="test", allow=list(allow), **rest)


@contextmanager
def network(
    *, omit: frozenset[str] = frozenset(), firewall: str = "nftables", **settings: Any
) -> Iterator[EgressNetwork]:
    number = next(_numbers)
    usual = {
        "slots": 32,
        "warm": 0,
        "ipv4": f"10.{100 + number % 100}.0.0/16",  # two may live in one namespace
        "ipv6": f"fd5d:b0c5:{number:x}::/64",
    }
    with ExitStack() as patched:
        if firewall in _proved:  # once is enough; it takes as long as all the rest
            patched.enter_context(patch.object(probe, "holds", lambda make: None))
        made = EgressNetwork(
            f"t{secrets.token_hex(4)}",
            NetworkSettings(enabled=True, firewall=firewall, **{**usual, **settings}),
            omit,
        )
    _proved.add(firewall)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def sandbox(network: EgressNetwork, policy: EgressPolicy | None) -> Iterator[EgressSlot]:
    slot = network.take()
    try:
        if policy is not None:
            network.assign(slot, policy)
        yield slot
    finally:
        if slot.port is not None:
            slot.port.close()  # nobody listens
        network.give_back(slot)
        network.network_of(slot)  # takes its turn: the end has been by then
