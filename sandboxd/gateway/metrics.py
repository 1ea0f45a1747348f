"""What /metrics says: this process, the queue, and what the nodes announce."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sandboxd.gateway.waiting import Slots
from sandboxd.model import NodeRecord
from sandboxd.queue import Stats

_BUCKETS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1, 2, 5, 10, 30, 60)
_NODE_GAUGES = (
    "cpu_capacity",
    "cpu_reserved",
    "memory_capacity",
    "memory_reserved",
    "running",
)


class Metrics:
    """The counters of one gateway process."""

    def __init__(self, slots: Slots) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._requests = Counter(
            "sandboxd_http_requests",
            "Answers by route and status.",
            ["route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "sandboxd_http_request_seconds",
            "Seconds from the request's head to the end of the answer.",
            ["route"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        waiting = Gauge(
            "sandboxd_gateway_waiting",
            "Clients waiting for results, events or streams.",
            registry=self._registry,
        )
        waiting.set_function(lambda: slots.taken)
        # Label look-ups take a lock and a tuple each; a request does one dictionary get instead.
        self._counters: dict[tuple[str, int], Counter] = {}
        self._histograms: dict[str, Histogram] = {}

    def observe(self, route: str, status: int, seconds: float) -> None:
        counter = self._counters.get((route, status))
        if counter is None:
            counter = self._requests.labels(route, str(status))
            self._counters[route, status] = counter
        histogram = self._histograms.get(route)
        if histogram is None:
            histogram = self._histograms[route] = self._seconds.labels(route)
        counter.inc()
        histogram.observe(seconds)

    def exposition(self, stats: Stats | None, nodes: Iterable[NodeRecord]) -> bytes:
        """The text format. `stats` is None when the queue does not answer."""
        foreign = CollectorRegistry(auto_describe=False)
        foreign.register(_Snapshot(list(_queue(stats)) + list(_nodes(list(nodes)))))
        return generate_latest(self._registry) + generate_latest(foreign)


class _Snapshot(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _queue(stats: Stats | None) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "sandboxd_queue_up", "1 if the queue answers.", value=float(stats is not None)
    )
    if stats is None:
        return
    jobs = GaugeMetricFamily("sandboxd_queue_jobs", "Unfinished jobs by state.", labels=["state"])
    for state in ("queued", "leased", "started"):
        jobs.add_metric([state], getattr(stats, state))
    yield jobs
    yield CounterMetricFamily("sandboxd_jobs_submitted", "Jobs accepted.", value=stats.submitted)
    yield CounterMetricFamily("sandboxd_jobs_finished", "Jobs ended.", value=stats.finished)


def _nodes(nodes: list[NodeRecord]) -> Iterator[Metric]:
    yield GaugeMetricFamily("sandboxd_nodes", "Live nodes.", value=len(nodes))
    for name in _NODE_GAUGES:
        family = GaugeMetricFamily(
            f"sandboxd_node_{name}", f"{name} as the node announces it.", labels=["node"]
        )
        for node in nodes:
            family.add_metric([node.id], getattr(node, name))
        yield family
    pools = GaugeMetricFamily("sandboxd_node_pool", "Warm sandboxes.", labels=["node", "template"])
    for node in nodes:
        for template, size in node.pools.items():
            pools.add_metric([node.id, template], size)
    yield pools
    yield from _counters(nodes)


def _counters(nodes: list[NodeRecord]) -> Iterator[Metric]:
    """A node names its own samples; `_total` makes one a counter, as Prometheus has it."""
    families: dict[str, Metric] = {}
    for node in nodes:
        for name, value in node.counters.items():
            family = families.get(name)
            if family is None:
                kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                family = families[name] = kind(name, "Announced by the node.", labels=["node"])
            family.add_metric([node.id], value)  # type: ignore[attr-defined]
    yield from families.values()
