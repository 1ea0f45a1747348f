"""An egress network for tests: made in the world's `svc`, with a sandbox that is a bare namespace."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sandboxd.drivers.network.egress import EgressNetwork, EgressSlot
from sandboxd.model.egress import EgressPolicy, EgressRule
from sandboxd.settings import NetworkSettings

ANYWHERE = (EgressRule(cidr="0.0.0.0/0"), EgressRule(cidr="::/0"))
ANY_UDP = (
    EgressRule(cidr="0.0.0.0/0", protocol="udp"),
    EgressRule(cidr="::/0", protocol="udp"),
)


def policy(*allow: EgressRule, **rest: Any) -> EgressPolicy:
    return EgressPolicy(name="test", allow=list(allow), **rest)


@contextmanager
def network(
    *, omit: frozenset[str] = frozenset(), firewall: str = "nftables", **settings: Any
) -> Iterator[EgressNetwork]:
    made = EgressNetwork(
        f"t{secrets.token_hex(4)}",
        NetworkSettings(enabled=True, firewall=firewall, warm=0, **{"slots": 32, **settings}),
        omit,
    )
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
        network.give_back(slot)
