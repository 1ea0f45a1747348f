"""Which firewall stops packets on this host: each is tried in a scratch namespace, by packets.

A node may have the tools of one and a kernel that lacks the other, or a rule that is taken and never
matched. So a slot is made, a datagram from it to the node is seen to arrive, the firewall is put up,
and the next one must be counted as dropped instead.
"""

import logging
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

from sandboxd.drivers.network.addresses import Plan
from sandboxd.drivers.network.firewall import Firewall, Layout
from sandboxd.drivers.network.floor import floor
from sandboxd.drivers.network.iptables import IptablesFirewall
from sandboxd.drivers.network.links import Links
from sandboxd.drivers.network.namespaces import close, here, inside
from sandboxd.drivers.network.nftables import NftablesFirewall
from sandboxd.errors import DriverFault
from sandboxd.native import new_netns

log = logging.getLogger(__name__)

BACKENDS: dict[str, Callable[[Layout], Firewall]] = {
    "nftables": NftablesFirewall,
    "iptables": IptablesFirewall,
}
_PATIENCE = 20.0
"""Seconds that a datagram may take between two namespaces of one, busy, machine."""
_AGAIN = 0.05
"""Seconds after which it is sent anew: a device that has just come up loses the first without a word."""


def choose(wanted: str, layout: Layout) -> Firewall:
    """The firewall of the settings, or with `auto` the first that works, for the calling thread's
    namespace. Raises DriverFault if it does not work, or none does."""
    return BACKENDS[holding(wanted)](layout)


def holding(wanted: str) -> str:
    """Name of the firewall that `choose` takes. Raises DriverFault."""
    whys = []
    for name, make in BACKENDS.items():
        if wanted not in ("auto", name):
            continue
        try:
            holds(make)
        except DriverFault as fault:
            log.warning("%s does not hold here: %s", name, fault)
            whys.append(f"{name}: {fault}")
            continue
        return name
    raise DriverFault("network", "find a firewall that holds", "; ".join(whys) or wanted)


def holds(make: Callable[[Layout], Firewall]) -> None:
    """Raises DriverFault, saying why, unless this firewall stops a slot's packets."""
    home = here()
    scratch = new_netns()
    try:
        inside(scratch, home, lambda: _try(make))
    finally:
        close(scratch, home)


def _try(make: Callable[[Layout], Firewall]) -> None:
    plan = Plan("probe", "10.213.0.0/16", "fd5d:b0c5:ab1e::/64", 1)
    with ExitStack() as made:
        links = Links(plan)
        made.callback(links.close)
        links.prepare()
        namespace, _ = links.make(plan.slot(0))
        made.callback(close, namespace)
        routers = (str(plan.router4), str(plan.router6))
        for address in routers:
            with _Listener(address) as listener:
                if not _reached(listener, namespace):
                    raise DriverFault("network", "probe the firewall", f"nothing reaches {address}")
        firewall = make(Layout(plan, floor((), (plan.ipv4, plan.ipv6)), True))
        made.callback(firewall.remove)
        firewall.install()
        for address in routers:
            before = firewall.dropped().get("node", 0)
            with _Listener(address) as listener:
                listener.send_from(namespace)
                deadline = time.monotonic() + _PATIENCE
                while firewall.dropped().get("node", 0) <= before:
                    if listener.heard(0.005) or time.monotonic() > deadline:
                        raise DriverFault("network", "probe the firewall", f"{address} is open")


def _reached(listener: "_Listener", namespace: int) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        listener.send_from(namespace)
        if listener.heard(_AGAIN):
            return True
    return False


class _Listener:
    """A socket of ours that a slot may try to reach."""

    def __init__(self, address: str) -> None:
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.socket(self._family, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send_from(self, namespace: int) -> None:
        home = here()
        try:
            inside(namespace, home, self._send)
        finally:
            close(home)

    def _send(self) -> None:
        with socket.socket(self._family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"probe", self._socket.getsockname())

    def heard(self, timeout: float) -> bool:
        """Whether a datagram has come, or does within so many seconds."""
        self._socket.settimeout(timeout)
        try:
            return self._socket.recv(16) == b"probe"
        except TimeoutError:
            return False
