"""Cells of the bench's table: the rounds of one peer, workload and concurrency, summed up."""

from collections.abc import Callable, Iterable
from statistics import median

from msgspec import Struct

from loadtest.measurement import Measurement, merged


class Spread(Struct, frozen=True):
    """Median over rounds, with the lowest and highest round."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        found = sorted(values)
        return cls(median=median(found), low=found[0], high=found[-1])


class Cell(Struct, frozen=True, kw_only=True):
    workload: str
    peer: str
    clients: int
    samples: int
    """Latencies of all rounds together."""
    p50: Spread
    """Milliseconds, as are those below."""
    p90: Spread
    p99: Spread
    p999: float | None
    """Over all rounds together; None with fewer than 1,000 samples, which cannot tell."""
    max: float
    per_second: Spread
    cpu: dict[str, float]
    """CPU milliseconds per job by process, median over rounds."""
    p50_to_bare: float | None
    """Median over rounds of the ratio to `bare` in the same round; None where there is none."""
    per_second_to_bare: float | None
    errors: dict[str, int]
    examples: dict[str, str]

    @property
    def cpu_total(self) -> float | None:
        """Milliseconds per job without the generator's; None where it was not measured."""
        parts = [spent for name, spent in self.cpu.items() if name != "generator"]
        return sum(parts) if parts else None


Rounds = list[Measurement]
Key = tuple[str, int, str]
"""Workload, clients, peer."""


def cells(results: dict[Key, Rounds]) -> list[Cell]:
    """In the order measured."""
    return [
        _cell(key, rounds, results.get((key[0], key[1], "bare")))
        for key, rounds in results.items()
        if rounds
    ]


def _cell(key: Key, rounds: Rounds, bare: Rounds | None) -> Cell:
    workload, clients, peer = key
    total = merged(rounds)
    samples = int(total.get_total_count())
    errors: dict[str, int] = {}
    examples: dict[str, str] = {}
    for measured in rounds:
        for kind, count in measured.errors.items():
            errors[kind] = errors.get(kind, 0) + count
        examples = {**measured.examples, **examples}
    return Cell(
        workload=workload,
        peer=peer,
        clients=clients,
        samples=samples,
        p50=Spread.of(measured.percentile_ms(50) for measured in rounds),
        p90=Spread.of(measured.percentile_ms(90) for measured in rounds),
        p99=Spread.of(measured.percentile_ms(99) for measured in rounds),
        p999=float(total.get_value_at_percentile(99.9)) / 1e3 if samples >= 1000 else None,
        max=max(measured.percentile_ms(100) for measured in rounds),
        per_second=Spread.of(measured.per_second for measured in rounds),
        cpu=_cpu(rounds),
        p50_to_bare=_ratio(rounds, bare, lambda measured: measured.percentile_ms(50)),
        per_second_to_bare=_ratio(rounds, bare, lambda measured: measured.per_second),
        errors=errors,
        examples=examples,
    )


def _cpu(rounds: Rounds) -> dict[str, float]:
    known = [spent for measured in rounds if (spent := measured.cpu_ms_per_job)]
    names = dict.fromkeys(name for spent in known for name in spent)
    return {name: median(spent.get(name, 0.0) for spent in known) for name in names}


def _ratio(
    rounds: Rounds, bare: Rounds | None, value: Callable[[Measurement], float]
) -> float | None:
    pairs = zip(rounds, bare or [], strict=False)
    ratios = [value(ours) / value(theirs) for ours, theirs in pairs if value(theirs) > 0]
    return median(ratios) if ratios else None
