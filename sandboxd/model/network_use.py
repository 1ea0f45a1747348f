"""What a sandbox did with its network."""

from typing import Literal

from msgspec import Struct


class NetworkRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that a sandbox asked of its network."""

    at: str
    """RFC 3339: when it was decided; of a connection through the proxy, when it ended."""
    kind: Literal["name", "connection", "refused", "ended", "gap"]
    """A question for a name; a connection through the proxy, or one that a rule let out; packets that a
    rule stopped; that such a connection is over, or cut; or that some records are missing here."""
    verdict: str
    """`allowed`, or why not: the rule's name, or words."""
    name: str = ""
    protocol: str = ""
    address: str = ""
    port: int = 0
    sent: int = 0
    received: int = 0
    """Bytes, where they are known."""


class NetworkUse(Struct, frozen=True, kw_only=True):
    """What a sandbox did with its network."""

    sent: int = 0
    """Bytes of packets that it sent, whether they were let through or not."""
    received: int = 0
    records: list[NetworkRecord] = []
    """In the order in which they came."""
    more: int = 0
    """Records beyond those that are kept."""


class NetworkEvent(NetworkRecord, frozen=True, kw_only=True, tag="network"):
    """A record of a sandbox that stays, and its place in the order."""

    id: str


class NetworkPage(Struct, frozen=True, kw_only=True):
    records: list[NetworkEvent]
    """The oldest first."""
    next_cursor: str | None = None
    """Give it back as `cursor` for those after these; None: there are none by now."""
