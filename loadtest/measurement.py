"""What a generator hands back: latencies, errors, throughput, and CPU by process."""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec
from hdrh.histogram import HdrHistogram
from msgspec import Struct

LOWEST_US, HIGHEST_US, SIGNIFICANT_FIGURES = 1, 3_600_000_000, 3


class Failure(Struct, frozen=True):
    """One job that went wrong: `kind` groups it, `detail` shows what came."""

    kind: str
    """`timeout`, `unsent`, `connection`, `malformed`, `http_429`, `status_internal_error`,
    `wrong_stdout`, `wrong_exit_code`, …"""
    detail: str = ""


class Measurement(Struct, frozen=True, kw_only=True):
    """One generator's pass over one workload."""

    histogram: HdrHistogram
    """Microseconds. Holds every right answer, and every job that was given up (`timeout`,
    `unsent`) with the time until then: leaving those out would flatter the percentiles. Jobs that
    failed at once are only in `errors`."""
    ok: int
    errors: dict[str, int]
    examples: dict[str, str]
    """The first detail seen of each kind of error."""
    seconds: float
    """From the first start to the last end."""
    cpu: dict[str, float] = {}
    """CPU seconds by process: `gateway`, `node`, `redis`, `serve`, `sandboxes`, `generator`."""
    lateness_ms: float = 0.0
    """p99 of how late the generator itself woke up for an intended start; within the latencies."""

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    @property
    def samples(self) -> int:
        """Values in the histogram."""
        return int(self.histogram.get_total_count())

    @property
    def per_second(self) -> float:
        """Right answers per second."""
        return self.ok / self.seconds if self.seconds > 0 else 0.0

    def percentile_ms(self, percent: float) -> float:
        """Latency in milliseconds; 100 is the maximum, and 0.0 comes of no sample at all."""
        return float(self.histogram.get_value_at_percentile(percent)) / 1e3 if self.samples else 0.0

    @property
    def cpu_ms_per_job(self) -> dict[str, float]:
        """CPU milliseconds per right answer, by process; empty if there was none."""
        if not self.ok:
            return {}
        return {name: seconds * 1e3 / self.ok for name, seconds in self.cpu.items()}

    def with_cpu(self, cpu: Mapping[str, float]) -> "Measurement":
        """The same with CPU seconds of further processes."""
        return msgspec.structs.replace(self, cpu={**self.cpu, **cpu})

    def with_error(self, kind: str, detail: str) -> "Measurement":
        """The same with one more error, seen from outside the generator."""
        return msgspec.structs.replace(
            self,
            errors={**self.errors, kind: self.errors.get(kind, 0) + 1},
            examples={kind: detail, **self.examples},
        )


class Tally:
    """Collects while a generator runs: cheap on the hot path, histograms come at the end."""

    def __init__(self) -> None:
        self.ok = 0
        self.errors: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self._latencies = array("q")

    def right(self, nanoseconds: int) -> None:
        self.ok += 1
        self._latencies.append(nanoseconds)

    def wrong(self, failure: Failure, nanoseconds: int) -> None:
        """`nanoseconds` count for a job that was given up: a lower bound of its latency."""
        self.errors[failure.kind] += 1
        self.examples.setdefault(failure.kind, failure.detail)
        if failure.kind in ("timeout", "unsent"):
            self._latencies.append(nanoseconds)

    def measurement(
        self, seconds: float, cpu: Mapping[str, float], lateness_ms: float = 0.0
    ) -> Measurement:
        return Measurement(
            histogram=histogram(self._latencies),
            ok=self.ok,
            errors=dict(self.errors),
            examples=self.examples,
            seconds=seconds,
            cpu=dict(cpu),
            lateness_ms=lateness_ms,
        )


def histogram(nanoseconds: Iterable[int]) -> HdrHistogram:
    """A histogram of microseconds, rounded to the nearest and clamped to its range."""
    made = HdrHistogram(LOWEST_US, HIGHEST_US, SIGNIFICANT_FIGURES)
    for value in nanoseconds:
        made.record_value(min(max((value + 500) // 1000, LOWEST_US), HIGHEST_US))
    return made


def merged(measurements: Iterable[Measurement]) -> HdrHistogram:
    """The sum of their histograms."""
    total = HdrHistogram(LOWEST_US, HIGHEST_US, SIGNIFICANT_FIGURES)
    for measurement in measurements:
        total.add(measurement.histogram)
    return total
