from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from loadtest import __main__ as tool
from loadtest import backlog, curve, growth, plot, workload
from loadtest.curve import BrokenError, Curve, Point
from loadtest.growth import CURVES, Plan

SMALL = Plan(jobs=(2, 6), warm=(3,), clients=(2,), depth=(3, 12), sample=4)


@pytest.mark.root
@pytest.mark.service
@pytest.mark.timeout(400)
async def test_every_curve_is_measured_on_the_real_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "_THROUGH", 5)  # what is behind them is never run
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:  # the gateway's own user reads the policies below it
        if parent != Path("/tmp"):
            parent.chmod(0o755)
    hello = workload.workloads(workload.build(tmp_path))["compiled"]
    kept: dict[str, Curve] = {}

    def keep(measured: Curve) -> None:
        kept[measured.name] = measured

    await growth.measure(CURVES, hello, tmp_path, SMALL, keep)
    assert not [measured.broken for measured in kept.values() if measured.broken]
    sizes = {name: [point.size for point in measured.points] for name, measured in kept.items()}
    assert sizes == {"jobs": [2, 6], "warm": [3], "clients": [2], "depth": [3, 12]}
    for measured in kept.values():
        assert all(
            point.p50 > 0 and point.cpu > 0 and point.per_second > 0 for point in measured.points
        )
    held = [point.held for point in kept["jobs"].points]
    assert all(h and min(h.memory.values()) > 1 << 20 for h in held)
    assert all(h and set(h.memory) == {"gateway", "node", "redis", "serve"} for h in held)
    assert all(h and h.descriptors > 50 and h.groups > 0 for h in held)
    curves = list(kept.values())
    plot.growth(curves, tmp_path / "growth.svg")
    assert "By depth of the queue" in (tmp_path / "growth.svg").read_text()
    text = "\n".join(curve.markdown(curves, "growth.svg"))
    assert text.count("| cgroups |") == 2 and "| redis MiB |" in text
    assert text.count("CPU of a job at the end") == 2 and "| jobs waiting" in text


def test_what_was_measured_before_a_curve_broke_is_kept_and_shown_and_the_next_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def breaks(*_: Any) -> AsyncIterator[Point]:
        yield _point(10, 5.0)
        raise BrokenError("503 full")

    async def holds(*_: Any) -> AsyncIterator[Point]:
        yield _point(1, 4.0)
        yield _point(64, 4.5)

    monkeypatch.setitem(growth._POINTS, "jobs", breaks)
    monkeypatch.setitem(growth._POINTS, "clients", holds)
    out = ["--out", str(tmp_path)]
    assert tool.main(["growth", "--curve", "jobs,clients", *out]) == 1
    jobs, clients = curve.read(tmp_path / "growth.json")
    assert ([p.size for p in jobs.points], jobs.broken) == ([10], "503 full")
    assert ([p.size for p in clients.points], clients.broken) == ([1, 64], "")
    assert "It ends here: 503 full" in (tmp_path / "growth.md").read_text()

    # One curve measured alone, later, leaves the other as it was.
    monkeypatch.setitem(growth._POINTS, "jobs", holds)
    assert tool.main(["growth", "--curve", "jobs", *out]) == 0
    jobs, again = curve.read(tmp_path / "growth.json")
    assert ([p.size for p in jobs.points], jobs.broken) == ([1, 64], "")
    assert again == clients
    assert "growth: By jobs since the start: 64" in capsys.readouterr().err


def test_a_file_of_curves_that_is_none_is_said_and_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "growth.json").write_text('{"curves": 3}')
    assert tool.main(["growth", "--out", str(tmp_path)]) == 2
    assert "growth.json holds no curves" in capsys.readouterr().err
    assert (tmp_path / "growth.json").read_text() == '{"curves": 3}'


def test_a_factor_leaves_out_the_first_point_which_pays_for_what_is_made_once() -> None:
    points = [_point(size, cpu) for size, cpu in ((1, 90.0), (10, 5.0), (100, 6.0))]
    grown = Curve(name="", title="", grows="", points=points)
    assert grown.factor == pytest.approx(1.2)
    assert Curve(name="", title="", grows="", points=points[:1]).factor == 1.0


def _point(size: int, cpu: float) -> Point:
    return Point(size=size, p50=1.0, p99=2.0, cpu=cpu, per_second=3.0)
