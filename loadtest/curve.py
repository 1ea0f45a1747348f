"""What a curve of growth is, the file that keeps them, and the page that shows them."""

from pathlib import Path

import msgspec
from msgspec import Struct

from loadtest.footprint import Footprint
from loadtest.report import number, table


class Point(Struct, frozen=True, kw_only=True):
    size: int
    p50: float
    """Milliseconds."""
    p99: float
    cpu: float
    """Milliseconds of a job: gateway, node, Redis, sandboxes."""
    per_second: float
    held: Footprint | None = None
    """What the service holds at this size, at rest."""


class Curve(Struct, frozen=True, kw_only=True):
    name: str
    title: str
    grows: str
    """What the size is."""
    points: list[Point] = []
    told: str = ""
    """What a reader must know to read it."""
    made: str = ""
    """When, where and by which command."""
    broken: str = ""
    """Why it ends before its time."""

    @property
    def factor(self) -> float:
        """CPU of a job at the largest size, by that at the smallest but one: the first point pays for
        what is made once."""
        first = self.points[min(1, max(0, len(self.points) - 2))]
        return self.points[-1].cpu / first.cpu


class BrokenError(Exception):
    """A job went wrong, so that nothing was measured; the text has the answer."""


def at(values: list[float], part: float) -> float:
    """The value below which `part` of them lie."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def read(path: Path) -> list[Curve]:
    """Those that earlier runs have kept. Raises BrokenError for a file that is none of ours."""
    if not path.exists():
        return []
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Curve])
    except msgspec.MsgspecError as error:
        raise BrokenError(f"{path.name} holds no curves: {error}") from error


def write(curves: list[Curve], path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(curves)) + b"\n")


def markdown(curves: list[Curve], plot: str) -> list[str]:
    lines = ["# Growth", "", f"![Latency and CPU against what grows]({plot})", ""]
    for curve in curves:
        columns = [curve.grows, "p50 ms", "p99 ms", "CPU ms", "jobs/s"]
        roles = list(dict.fromkeys(role for p in curve.points if p.held for role in p.held.memory))
        if roles:
            columns += [*(f"{role} MiB" for role in roles), "descriptors", "cgroups"]
        lines += [
            f"## {curve.title}", "",
            curve.made, "",
            *table(columns, [_row(point, roles) for point in curve.points]),
            "", _conclusion(curve), "",
        ]  # fmt: skip
    return lines


def _conclusion(curve: Curve) -> str:
    said = [curve.told] if curve.told else []
    if len(curve.points) > 1:
        said.insert(0, f"CPU of a job at the end, to that near the beginning: {curve.factor:.2f}.")
    if curve.broken:
        said.append(f"It ends here: {curve.broken}")
    return " ".join(said)


def _row(point: Point, roles: list[str]) -> list[str]:
    cells = [f"{point.size:,}"]
    cells += map(number, (point.p50, point.p99, point.cpu, point.per_second))
    if point.held:
        cells += [number(point.held.memory.get(role, 0) / 2**20) for role in roles]
        cells += [str(point.held.descriptors), str(point.held.groups)]
    return cells
