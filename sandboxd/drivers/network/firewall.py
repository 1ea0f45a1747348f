"""What the network driver asks of a firewall; `nftables` and `iptables` stand behind it.

All of it is called from the driver's one thread and blocks for a netlink call or two. Each method raises
DriverFault, and has then changed nothing.
"""

from collections.abc import Collection, Iterable
from typing import Protocol

from msgspec import Struct

from sandboxd.drivers.network.addresses import Addresses, Plan
from sandboxd.drivers.network.floor import Address, Floor, Net
from sandboxd.drivers.network.rules import PolicyChains

PROXY_PORT = 15_080
"""On the router's address; reached by redirection only."""


class Layout(Struct, frozen=True):
    """What the fixed chains are made of."""

    plan: Plan
    floor: Floor
    nat: bool
    guard: int = 0
    """User of the process that asks and connects on sandboxes' behalf; 0: there is none."""
    resolvers: tuple[Net, ...] = ()
    """Addresses that it may ask, wherever they are."""
    reports: int = 0
    """NFLOG group that packets are reported to; 0: they are not."""
    overlay: int = 0
    """UDP port by which other nodes' sandboxes are reached; 0: they are not."""
    tunnel: str = ""
    """The node's address in the tunnel, which those packets come and go through; empty: there is none."""
    omit: frozenset[str] = frozenset()
    """Names of rules that a test leaves out."""


class Opening(Struct, frozen=True):
    """What an answered name opens for one sandbox."""

    sandbox: Address
    protocol: str
    port: int
    address: Address
    ttl: int
    """Seconds."""
    proxied: bool
    """Through the proxy, which looks for the name in what is sent."""


class Living(Struct, frozen=True):
    """A group whose sandboxes have outlived the node before this one."""

    group: int
    chains: PolicyChains
    members: bool


class Firewall(Protocol):
    name: str

    def install(self) -> None:
        """Put the fixed chains up, instead of whatever an earlier node of this instance left."""

    def resume(self, living: Collection[Living], slots: Collection[Addresses]) -> None:
        """The same with the rules of these groups, and what the caps have counted of these slots, instead
        of what an earlier node left: a packet meets the former rules or the new ones, never fewer. What
        names were answered with is closed. Raises DriverFault too if it finds nothing of an earlier
        node's."""

    def put(self, group: int, chains: PolicyChains, *, members: bool = False) -> None:
        """Give `group` these rules, at once, instead of those that it has. `members`: devices of the
        group may also talk to one another."""

    def drop(self, group: int) -> None:
        """Take the rules of a group that no device is in."""

    def open(self, openings: Iterable[Opening]) -> None:
        """Let through, or to the proxy, until each one's time is over."""

    def forget(self, slot: Addresses, openings: Iterable[Opening]) -> None:
        """Take what the caps counted of a sandbox, and these openings of it, whose time may be over."""

    def connect(self, peers: Collection[Address], mates: Collection[tuple[int, Address]]) -> None:
        """Hear these nodes, and let sandboxes of a group and these of other nodes see one another."""

    def dropped(self) -> dict[str, int]:
        """Packets that each rule which does not accept has met, by the rule's name."""

    def remove(self) -> None:
        """Take everything of this instance away."""
