"""Slots whose sandboxes have outlived the node before this one.

Their devices, rules, counts and connections are in the kernel and held all the time. They are taken
over as they are: the same groups, the same marks, so that what was open goes on.
"""

import logging
import os
import socket
import time
from collections.abc import Sequence

from sandboxd.drivers.network.addresses import Plan
from sandboxd.drivers.network.firewall import Firewall, Living
from sandboxd.drivers.network.groups import Groups
from sandboxd.drivers.network.macvlan.lans import Lans
from sandboxd.drivers.network.slots import EgressSlot, KeptSlot
from sandboxd.errors import DriverFault
from sandboxd.model.egress import on_node

log = logging.getLogger(__name__)


def resume(
    firewall: Firewall, plan: Plan, lans: Lans, kept: Sequence[tuple[KeptSlot, int]]
) -> tuple[Groups, list[EgressSlot]]:
    """The firewall up with the rules of those slots that can be taken over, their groups, and the
    slots, with descriptors of their own. If there are none, the firewall is put up as a new one's.

    Raises DriverFault.
    """
    groups, slots = Groups(), list[EgressSlot]()
    living: dict[int, Living] = {}
    for state, namespace in kept:
        try:
            slot = _slot(plan, lans, state, namespace)
            try:
                policy = on_node(state.policy, state.network)
                chains = groups.resume(state.group, state.mark, policy, state.network)
            except BaseException:
                _let_go(slot)
                raise
        except (OSError, DriverFault) as error:
            log.warning("network slot %d is not taken over: %s", state.index, error)
            continue
        slots.append(slot)
        living[state.group] = Living(plan.group(state.group), chains, bool(state.network))
    if slots:
        try:
            firewall.resume(living.values(), [slot.addresses for slot in slots])
            return groups, slots
        except DriverFault as error:  # another version wrote it
            log.warning("no network slot is taken over: %s", error)
            for slot in slots:
                _let_go(slot)
    firewall.install()
    return Groups(), []


def _let_go(slot: EgressSlot) -> None:
    """What its sandbox has on an interface goes with its namespace; nobody gets those addresses."""
    if slot.port is not None:
        slot.port.close()
        slot.port.let_go()
    os.close(slot.fd)


def _slot(plan: Plan, lans: Lans, state: KeptSlot, namespace: int) -> EgressSlot:
    """Raises OSError if its device is gone, DriverFault if the settings have other addresses now."""
    if state.index >= plan.slots or plan.slot(state.index).texts != state.addresses:
        raise DriverFault("network", "resume a slot", "it has other addresses")
    addresses = plan.slot(state.index)
    device = socket.if_nametoindex(addresses.device)
    port = lans.resume(state.port, namespace) if state.port is not None else None
    held = on_node(state.policy, state.network)
    return EgressSlot(
        device=device,
        fd=os.dup(namespace),
        addresses=addresses,
        made_at=time.monotonic(),
        group=state.group,
        rates=(held.upload, held.download),
        port=port,
        assignments=1,
        kept=state,
    )
