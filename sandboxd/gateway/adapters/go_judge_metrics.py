"""go-judge's metrics, by its names: of one tenant on this gateway, since its start.

What go-judge has and this leaves out: the length of its queue and the sum of what is in its file store
(both are Redis', for all gateways), its environments and its own control groups.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

_SECONDS = (
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1, 2, 5, 10, 20, 50, 100,
)  # fmt: skip
_MEMORY = tuple(float(1 << n) for n in range(12, 33))
_SIZES = tuple(float(1 << n) for n in range(8, 28))


class GoJudgeMetrics:
    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry(auto_describe=False)
        # Created here since the library would add `_total` to the name that dashboards know.
        self._errors = Gauge(
            "go_judge_exec_error_count", "Requests that returned an error.", registry=registry
        )
        self._seconds = Histogram(
            "go_judge_exec_time_seconds", "CPU time of commands.", ["status"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._memory = Histogram(
            "go_judge_exec_memory_bytes", "Peak memory of commands.", ["status"], buckets=_MEMORY,
            registry=registry,
        )  # fmt: skip
        self._sizes = Histogram(
            "go_judge_file_size_bytes", "Sizes of files that were kept.", buckets=_SIZES,
            registry=registry,
        )  # fmt: skip
        self._running = Gauge(
            "go_judge_worker_running_count", "Commands that have not ended.", registry=registry
        )

    @contextmanager
    def running(self, commands: int) -> Iterator[None]:
        self._running.inc(commands)
        try:
            yield
        finally:
            self._running.dec(commands)

    def error(self) -> None:
        self._errors.inc()

    def ran(self, status: str, seconds: float, memory: int) -> None:
        self._seconds.labels(status).observe(seconds)
        self._memory.labels(status).observe(memory)

    def kept(self, size: int) -> None:
        self._sizes.observe(size)

    def exposition(self) -> bytes:
        """The text format."""
        return generate_latest(self._registry)


class Metrics:
    """Of every tenant, each by itself: how busy others are is nobody's business."""

    def __init__(self) -> None:
        self._tenants: defaultdict[str, GoJudgeMetrics] = defaultdict(GoJudgeMetrics)

    def of(self, tenant: str) -> GoJudgeMetrics:
        return self._tenants[tenant]
