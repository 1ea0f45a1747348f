"""What a sandbox has used over time."""

from msgspec import Struct


class MetricsSample(Struct, frozen=True, kw_only=True):
    """One moment of it."""

    at: str
    """RFC 3339."""
    cpu_time: float
    """Seconds since the sandbox was created."""
    memory: int
    """Bytes, as are `disk` and the network's."""
    pids: int
    disk: int
    processes: int
    """That were started through the API and ran."""
    rx_bytes: int
    """That it had got since it was created."""
    tx_bytes: int


class MetricsHistory(Struct, frozen=True, kw_only=True):
    """Answer of `GET /v1/sandboxes/{id}/metrics/history`."""

    interval: float
    """Seconds between samples. There are none of the time during which it was paused."""
    samples: list[MetricsSample]
    """The oldest first; older ones are forgotten."""
