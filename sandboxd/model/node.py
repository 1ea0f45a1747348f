"""A node as the queue knows it."""

from msgspec import Struct


class NodeRecord(Struct, frozen=True, kw_only=True):
    """What a node announces every few seconds; it is gone when the record expires."""

    id: str
    address: str
    """Where its agent listens: `unix:/path`."""
    started_at: str
    version: str
    isolation: list[str]
    languages: list[str]
    """Names of the languages whose requirements this node's images meet."""
    cpu_capacity: int
    """Thousandths of a core; also below."""
    cpu_reserved: int
    memory_capacity: int
    memory_reserved: int
    pools: dict[str, int]
    """Warm sandboxes by template."""
    running: int
    counters: dict[str, float] = {}
    """Monotonic counters and gauges for /metrics, by Prometheus sample name."""
