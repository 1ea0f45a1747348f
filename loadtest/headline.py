"""The table at the head of README.md, taken from a bench's results and from nowhere else."""

from pathlib import Path

import msgspec

from loadtest.cell import Cell
from loadtest.report import Report, number, table

BEGIN, END = "<!-- benchmark: written by `make bench` -->\n", "<!-- end -->\n"
_PEERS = ("bare file", "bare", "bubblewrap", "nsjail", "runc", "go-judge", "sandboxd")
"""Those of them that were measured, in this order."""


class NoBlockError(Exception):
    """The text has no place for the table."""


def read(path: Path) -> Report:
    """A `bench.json`. Raises msgspec.ValidationError."""
    return msgspec.json.decode(path.read_bytes(), type=Report)


def block(report: Report) -> str:
    """What stands between the marks: a row for each workload and peer, by fewest and most clients."""
    fewest, most = min(report.plan.clients), max(report.plan.clients)
    lines = table(
        ["", f"p50, {fewest} client", "p99", f"jobs/s, {most} clients", "CPU for each"],
        [
            _row(report, workload, peer, fewest, most)
            for workload in report.workloads
            for peer in _PEERS
            if _cell(report, workload, peer, fewest) and _cell(report, workload, peer, most)
        ],
    )
    host = report.host
    told = (
        f"{host.date}, commit `{host.commit}`, {host.cores} cores of {host.cpu}, medians of "
        f"{report.plan.rounds} rounds."
    )
    return "\n".join([*lines, "", told]) + "\n"


def replaced(text: str, report: Report) -> str:
    """`text` with the block between its marks anew. Raises NoBlockError."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise NoBlockError(f"no lines {BEGIN.strip()} and {END.strip()}")
    return f"{before}{BEGIN}{block(report)}{END}{after}"


def _row(report: Report, workload: str, peer: str, fewest: int, most: int) -> list[str]:
    alone, many = _cell(report, workload, peer, fewest), _cell(report, workload, peer, most)
    assert alone is not None and many is not None
    total = "-" if many.cpu_total is None else f"{number(many.cpu_total)} ms"
    return [
        f"{workload}, {peer}", f"{number(alone.p50.median)} ms", f"{number(alone.p99.median)} ms",
        number(many.per_second.median), total,
    ]  # fmt: skip


def _cell(report: Report, workload: str, peer: str, clients: int) -> Cell | None:
    wanted = (workload, peer, clients)
    return next(
        (cell for cell in report.cells if (cell.workload, cell.peer, cell.clients) == wanted), None
    )
