"""What the queue answers with, besides the documents of `sandboxd.model`."""

from enum import StrEnum
from typing import Any

from msgspec import Struct


class Event(Struct, frozen=True):
    """Something that happened to a job."""

    id: str
    """Position in the job's stream; give it back as `after` to resume."""
    type: str
    """`queued`, `leased`, `started`, `finished`, `requeued`, `cancel_requested`; of a submission also
    `compiled` and `case`."""
    at: str
    """RFC 3339, by the server's clock."""
    data: dict[str, Any]
    """`node` and `attempt` of leased and started, `status` of finished, `reason` of requeued."""


class Stats(Struct, frozen=True):
    queued: int
    leased: int
    started: int
    submitted: int
    """Ever; as is `finished`."""
    finished: int


class CancelOutcome(StrEnum):
    CANCELLED = "cancelled"
    """It had not been executed and now never will be."""
    REQUESTED = "requested"
    """It runs; its node was told."""
    FINISHED = "finished"
    UNKNOWN = "unknown"
