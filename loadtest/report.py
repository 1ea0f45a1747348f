"""The bench's results as Markdown and JSON."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from loadtest.bench import Plan
from loadtest.cell import Cell, Spread
from loadtest.cpu import ROLES
from loadtest.host import Host


class Held(Struct, frozen=True, kw_only=True):
    """Memory, in bytes of PSS."""

    what: str
    rest: int
    peak: int | None = None
    charged: int | None = None
    """At rest, what its control group counts: the kernel's own memory for it too."""
    goal: int | None = None
    """What `rest` shall not exceed."""


class Report(Struct, frozen=True, kw_only=True):
    host: Host
    plan: Plan
    workloads: dict[str, str]
    """Title by name."""
    peers: dict[str, str]
    """What each is, by name."""
    compiler: str
    stolen: float
    """Share of the machine's time that the hypervisor gave to others during the run."""
    command: str
    """What was run, without the place where the results lie."""
    notes: list[str]
    """What else a reader should know, such as a peer left out."""
    cells: list[Cell]
    memory: list[Held] = []

    @property
    def seconds(self) -> float:
        """Of one cell in one round."""
        return self.plan.of_cell(len(self.cells))

    @property
    def errors(self) -> int:
        return sum(sum(cell.errors.values()) for cell in self.cells)


def json(report: Report) -> bytes:
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def markdown(report: Report, plot: str | None = None) -> str:
    """`plot` is the name of the picture beside it."""
    parts = [*_head(report), *_errors(report)]
    if plot:
        parts += [f"![Latency and throughput by number of clients]({plot})", ""]
    for name, title in report.workloads.items():
        rows = [cell for cell in report.cells if cell.workload == name]
        parts += [f"## {title}", "", *_latency_table(rows), "", *_cpu_table(rows), ""]
    parts += memory(report.memory)
    return "\n".join(parts)


def _head(report: Report) -> list[str]:
    host, plan = report.host, report.plan
    clients = ", ".join(str(number) for number in plan.clients)
    return [
        "# Bench: this service beside its peers",
        "",
        f"* {host.date}, commit `{host.commit}`; `{report.command}`",
        f"* {host.cpu}, {host.cores} cores, {host.memory / 2**30:.1f} GiB; kernel {host.kernel}, "
        f"{host.system}",
        f"* load average {host.load:.2f} at the start; the hypervisor gave {report.stolen:.1%} of "
        "the cores' time to others during the run",
        f"* closed loop, {clients} clients; {plan.rounds} interleaved rounds of {report.seconds:.2g} s "
        "per cell after a warm-up; the generator runs on the same cores",
        f"* compiled hello: `{report.compiler}`",
        *(f"* **{name}**: {about}" for name, about in report.peers.items()),
        *(f"* {note}" for note in report.notes),
        "",
        "Numbers are medians over rounds [lowest, highest round]; if rounds are independent, that range "
        f"holds the true median with a confidence of {1 - 0.5 ** (plan.rounds - 1):.1%}. "
        "A round with fewer than 100 samples has its maximum as p99. p99.9 and max are "
        "over all rounds; p99.9 is left out below 1,000 samples. Ratios are medians of "
        "the ratios within each round. Every answer was checked: status, exit code and stdout.",
        "",
    ]


def _errors(report: Report) -> list[str]:
    found = [
        f"* {cell.workload}, {cell.peer}, {cell.clients} clients: {count} x `{kind}`"
        for cell in report.cells
        for kind, count in cell.errors.items()
    ]
    return ["## Errors", "", *found, ""] if found else []


def _latency_table(rows: Sequence[Cell]) -> list[str]:
    return table(
        ["peer", "clients", "samples", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms",
         "jobs/s", "p50 / bare", "jobs/s / bare", "errors"],
        [
            [cell.peer, str(cell.clients), str(cell.samples),
             _spread(cell.p50), _spread(cell.p90), _spread(cell.p99), number(cell.p999),
             number(cell.max), _spread(cell.per_second), number(cell.p50_to_bare),
             number(cell.per_second_to_bare), str(sum(cell.errors.values()))]
            for cell in rows
        ],
    )  # fmt: skip


def _cpu_table(rows: Sequence[Cell]) -> list[str]:
    """Only the columns that some peer has."""
    names = [name for name in (*ROLES, "generator") if any(name in cell.cpu for cell in rows)]
    heads = ["jobs' own processes" if name == "sandboxes" else name for name in names]
    return [
        "CPU milliseconds per job, median over rounds; the total leaves the generator out:",
        "",
        *table(
            ["peer", "clients", "total", *heads],
            [
                [cell.peer, str(cell.clients), number(cell.cpu_total)]
                + [number(cell.cpu.get(name)) for name in names]
                for cell in rows
            ],
        ),
    ]


def memory(rows: Sequence[Held]) -> list[str]:
    if not rows:
        return []
    return [
        "## Memory", "",
        "PSS: of a page that several processes share, each has its part. What the kernel itself keeps "
        "for a sandbox is in its control group's count alone. A peer's is of all processes that one "
        "sandbox is made of, while a Python program sleeps in it: at rest, and the most while it "
        "started and ended. Where more than one sandbox waits, the peak is that of the largest.",
        "",
        *table(
            ["of", "at rest MiB", "peak MiB", "group MiB", "goal"],
            [
                [row.what, *map(_mib, (row.rest, row.peak, row.charged)),
                 f"≤ {_mib(row.goal)}" if row.goal else ""]
                for row in rows
            ],
        ),
        "",
    ]  # fmt: skip


def _mib(size: int | None) -> str:
    return number(None if size is None else size / 2**20)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, aligned for reading as text; numbers to the right."""
    widths = [max(3, *(len(row[column]) for row in [heads, *rows])) for column in range(len(heads))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [_line(row, widths) for row in [heads, rule, *rows]]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    numbers = [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
    return "| " + " | ".join([row[0].ljust(widths[0]), *numbers]) + " |"


def _spread(spread: Spread) -> str:
    return f"{number(spread.median)} [{number(spread.low)}, {number(spread.high)}]"


def number(value: float | None) -> str:
    """Two significant digits at least, or a dash."""
    if value is None:
        return "-"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 3
    return f"{value:.{digits}f}"
