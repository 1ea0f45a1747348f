"""What happens to sandboxes, as it is written down and told."""

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from sandboxd.model.moment import rfc3339

EventType = Literal[
    "created", "paused", "resumed", "extended", "limits_changed", "snapshot", "forked", "ended"
]


class SandboxEvent(Struct, frozen=True, kw_only=True):
    """Something that happened to a sandbox; kept with the sandbox, see `queue.sessions`."""

    id: str = ""
    """Position in the tenant's stream of events."""
    type: EventType
    sandbox: str
    at: str = ""
    """RFC 3339; empty where the position says it."""
    data: dict[str, str] = {}


def placed(event: SandboxEvent) -> SandboxEvent:
    """With the time that its position says: milliseconds before the dash."""
    return replace(event, at=rfc3339(int(event.id.partition("-")[0]) / 1000))
