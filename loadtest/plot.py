"""The bench's picture: a row for each workload, latency on the left, throughput on the right."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest.cell import Cell, Spread
from loadtest.curve import Curve
from loadtest.report import Report

_COLOURS = (
    "#7f7f7f", "#bcbd22", "#1f77b4", "#9467bd", "#2ca02c", "#8c564b", "#17becf", "#ff7f0e", "#e377c2",
)  # fmt: skip
_OURS = "#d62728"


def write(report: Report, path: Path) -> None:
    """As SVG, with its text as text, so that it stays small. A bare Figure needs no display."""
    names = list(report.workloads)
    figure = Figure(figsize=(13, 4.6 * len(names) + 0.6), dpi=110, layout="constrained")
    axes = figure.subplots(len(names), 2, squeeze=False)
    for row, name in zip(axes, names, strict=True):
        cells = [cell for cell in report.cells if cell.workload == name]
        _latency(row[0], cells, report)
        title = report.workloads[name].replace("`", "")
        row[0].set_title(f"{title}: latency", fontsize=10)
        _throughput(row[1], cells, report)
        row[1].set_title(f"{title}: throughput", fontsize=10)
    host, plan = report.host, report.plan
    figure.suptitle(
        f"{host.cpu}, {host.cores} cores, kernel {host.kernel}; {host.date}, commit {host.commit}; "
        f"{plan.rounds} rounds of {report.seconds:.2g} s",
        fontsize=9,
    )
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """The same figures make the same file."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "sandboxd"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


def _colour(report: Report, peer: str) -> str:
    """The service, which comes last, stands out."""
    names = list(report.peers)
    return _OURS if peer == names[-1] else _COLOURS[names.index(peer) % len(_COLOURS)]


def _by_peer(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.peer, []).append(cell)
    return found


def _bars(spreads: Sequence[Spread]) -> tuple[list[float], list[list[float]]]:
    """Heights, and error bars from the lowest to the highest round."""
    below = [spread.median - spread.low for spread in spreads]
    above = [spread.high - spread.median for spread in spreads]
    return [spread.median for spread in spreads], [below, above]


def _latency(axes: Axes, cells: Sequence[Cell], report: Report) -> None:
    clients = sorted({cell.clients for cell in cells})
    for peer, found in _by_peer(cells).items():
        colour = _colour(report, peer)
        at = [clients.index(cell.clients) for cell in found]
        heights, reach = _bars([cell.p50 for cell in found])
        axes.errorbar(at, heights, reach, color=colour, marker="o", capsize=3, label=peer)
        tails = [cell.p99.median for cell in found]
        axes.plot(at, tails, color=colour, marker="^", ls=":", lw=1.2, ms=4)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("ms (log): solid p50 with its range over rounds, dotted p99")
    _finish(axes, clients)


def _throughput(axes: Axes, cells: Sequence[Cell], report: Report) -> None:
    clients = sorted({cell.clients for cell in cells})
    peers = _by_peer(cells)
    width = 0.84 / max(1, len(peers))
    for number, (peer, found) in enumerate(peers.items()):
        offset = (number - (len(peers) - 1) / 2) * width
        at = [clients.index(cell.clients) + offset for cell in found]
        heights, reach = _bars([cell.per_second for cell in found])
        drawn = axes.bar(at, heights, width * 0.94, yerr=reach, capsize=2,
                         color=_colour(report, peer), label=peer)  # fmt: skip
        axes.bar_label(drawn, fmt="{:.0f}", fontsize=7, padding=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("right answers per second (log)")
    axes.margins(y=0.3)  # room for the legend
    _finish(axes, clients)


def _finish(axes: Axes, clients: Sequence[int]) -> None:
    axes.set_xticks(range(len(clients)), [str(number) for number in clients])
    axes.set_xlabel("clients at once")
    axes.grid(axis="y", which="major", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(fontsize=7, ncols=2, loc="upper left")


def growth(curves: Sequence[Curve], path: Path) -> None:
    """As SVG: for each curve the latency and the CPU of a job, against what grows."""
    drawn = [curve for curve in curves if curve.points]
    rows = max(1, (len(drawn) + 1) // 2)
    figure = Figure(figsize=(13, 3.5 * rows), layout="constrained")
    places = figure.subplots(rows, 2, squeeze=False).flatten()
    for axes in places[len(drawn) :]:
        axes.set_axis_off()
    for axes, curve in zip(places, drawn, strict=False):
        at = [max(point.size, 1) for point in curve.points]
        for label, values, colour in (
            ("p50, ms", [point.p50 for point in curve.points], _OURS),
            ("CPU of a job, ms", [point.cpu for point in curve.points], "#1f77b4"),
        ):
            axes.plot(at, values, marker="o", label=label, color=colour)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_title(curve.title, fontsize=10)
        axes.set_xlabel(curve.grows)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    save(figure, path)
