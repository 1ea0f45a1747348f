"""What nodes tell each other so that group networks span them."""

from msgspec import Struct


class Peer(Struct, frozen=True, kw_only=True):
    """How another node's sandboxes are reached."""

    underlay: str
    """Its address on the network that nodes share."""
    ipv4: str
    ipv6: str
    """The ranges of its sandboxes, which are no other node's."""
    key: str = ""
    """Its WireGuard public key, in base64; empty: it speaks in the clear."""
    port: int = 0
    """UDP, where its WireGuard hears."""


class Mate(Struct, frozen=True, kw_only=True):
    """A sandbox in a group network."""

    group: str
    """Which: the same on every node for the same tenant, group and policy, and not to be read."""
    name: str
    ipv4: str
    ipv6: str


class OverlayRecord(Struct, frozen=True, kw_only=True):
    """What one node has."""

    node: str
    peer: Peer
    mates: tuple[Mate, ...] = ()
