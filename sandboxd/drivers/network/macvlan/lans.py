"""The interfaces that sandboxes may be put on, and who is on which. For one thread."""

import ipaddress
import socket
from collections.abc import Mapping

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from sandboxd.drivers.network.addresses import Plan
from sandboxd.drivers.network.firewall import Layout
from sandboxd.drivers.network.floor import Net, floor
from sandboxd.drivers.network.libnftables import Nftables
from sandboxd.drivers.network.macvlan.port import KeptPort, Port
from sandboxd.drivers.network.macvlan.seats import Seats
from sandboxd.drivers.network.macvlan.table import REPORTS
from sandboxd.errors import DriverFault, SandboxdError
from sandboxd.model.egress import EgressPolicy
from sandboxd.settings import MacvlanSettings, SettingsError


class Lans:
    def __init__(
        self, settings: Mapping[str, MacvlanSettings], plan: Plan, omit: frozenset[str]
    ) -> None:
        """Of the calling thread's network namespace. Raises SettingsError, or DriverFault where nothing
        could stand before a sandbox."""
        self._settings, self._plan, self._omit = settings, plan, omit
        self._seats = {name: Seats(name, lan) for name, lan in settings.items()}
        for name, lan in settings.items():
            floor(lan.private, ())
            try:
                socket.if_nametoindex(lan.interface)
            except OSError:
                raise SettingsError(
                    f"network.macvlan.{name}.interface: there is no {lan.interface}"
                ) from None
        if settings:
            Nftables().close()

    def put(self, port: Port | None, policy: EgressPolicy, namespace: int, *, shared: bool) -> Port:
        """The place on its interface under this policy: `port`, or a new one in the namespace. `shared`:
        what no rule of it means goes through the node.

        Raises DriverFault or Overload, and has then made nothing.
        """
        name = policy.interface or ""
        if name not in self._settings:
            raise DriverFault("network", "find an interface", f"{name} is not in the settings")
        layout = self._layout(name)
        if port is not None:
            port.put(policy, layout, shared=shared)
            return port
        seat = self._seats[name].take()
        try:
            index = socket.if_nametoindex(self._settings[name].interface)
            made = Port.made(name, index, seat, namespace)
        except (OSError, DriverFault) as error:
            self._seats[name].give_back(seat)
            if isinstance(error, DriverFault):
                raise
            raise DriverFault("network", f"put a sandbox on {name}", str(error)) from error
        try:
            made.put(policy, layout, shared=shared)
        except SandboxdError:
            made.close()
            self.leave(made)
            raise
        return made

    def resume(self, kept: KeptPort, namespace: int) -> Port:
        """The place of a sandbox that has outlived the node before this one, as it is.

        Raises DriverFault, and nobody then gets its addresses.
        """
        try:
            seat = self._seats[kept.name].claim(kept.seat)
            if socket.if_nametoindex(self._settings[kept.name].interface) != kept.parent:
                raise LookupError(f"{kept.name} is another interface now")
        except (LookupError, OSError) as error:
            raise DriverFault("network", "resume a place on an interface", str(error)) from error
        return Port.resumed(kept, seat, namespace)

    def leave(self, port: Port) -> None:
        """Take it away. Raises DriverFault, and nobody else then gets its addresses."""
        port.end()
        self._seats[port.name].give_back(port.seat)

    def _layout(self, name: str) -> Layout:
        own: tuple[Net, ...] = (self._plan.ipv4, self._plan.ipv6, *_addresses())
        return Layout(
            self._plan,
            floor(self._settings[name].private, own),
            nat=False,
            reports=REPORTS,
            omit=self._omit,
        )


def _addresses() -> list[Net]:
    """The host's own, which a router may lead back to. Raises DriverFault."""
    try:
        with IPRoute() as link:
            return [
                ipaddress.ip_network(found.get_attr("IFA_LOCAL") or found.get_attr("IFA_ADDRESS"))
                for found in link.get_addr()
            ]
    except (NetlinkError, OSError) as error:
        raise DriverFault("network", "list the host's addresses", str(error)) from error
