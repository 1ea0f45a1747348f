"""go-judge's metrics, by its names: of this gateway, since its start.

What go-judge has and this leaves out: the sum of what is in the file store (it is the tenants', on all
gateways), its environments and its own control groups.
"""

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
        self._queued = Gauge(
            "go_judge_worker_queue_count", "Jobs that wait, of whatever API.", registry=registry
        )
        self._running = Gauge(
            "go_judge_worker_running_count", "Jobs that run, of whatever API.", registry=registry
        )

    def error(self) -> None:
        self._errors.inc()

    def ran(self, status: str, seconds: float, memory: int) -> None:
        self._seconds.labels(status).observe(seconds)
        self._memory.labels(status).observe(memory)

    def kept(self, size: int) -> None:
        self._sizes.observe(size)

    def exposition(self, queued: int, running: int) -> bytes:
        """The text format."""
        self._queued.set(queued)
        self._running.set(running)
        return generate_latest(self._registry)
