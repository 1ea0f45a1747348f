from pathlib import Path

import pytest

from loadtest import growth, plot, workload
from loadtest.growth import Curve, Plan, Point

SMALL = Plan(jobs=(2, 6), warm=(3,), clients=(2,), depth=(12,), sample=4)


@pytest.mark.root
@pytest.mark.service
@pytest.mark.timeout(400)
async def test_every_curve_is_measured_on_the_real_service(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:  # the gateway's own user reads the policies below it
        if parent != Path("/tmp"):
            parent.chmod(0o755)
    hello = workload.workloads(workload.build(tmp_path))["compiled"]
    curves = await growth.measure(hello, tmp_path, SMALL, lambda _: None)
    sizes = [[point.size for point in curve.points] for curve in curves]
    assert sizes == [[2, 6], [3], [2], [12]]
    for curve in curves:
        assert all(
            point.p50 > 0 and point.cpu > 0 and point.per_second > 0 for point in curve.points
        )
    held = [point.held for point in curves[0].points]
    assert all(h and h.memory > 10 << 20 and h.descriptors > 50 and h.groups > 0 for h in held)
    plot.growth(curves, tmp_path / "growth.svg")
    assert "By depth of the queue" in (tmp_path / "growth.svg").read_text()
    text = "\n".join(growth.markdown(curves, ["head"], "growth.svg"))
    assert text.count("| cgroups |") == 1
    assert text.count("CPU of a job at the end") == 4 and "| jobs waiting" in text


def test_a_factor_leaves_out_the_first_point_which_pays_for_what_is_made_once() -> None:
    points = [
        Point(size=size, p50=1.0, p99=2.0, cpu=cpu, per_second=3.0)
        for size, cpu in ((1, 90.0), (10, 5.0), (100, 6.0))
    ]
    assert Curve(title="", grows="", points=points).factor == pytest.approx(1.2)
    assert Curve(title="", grows="", points=points[:1]).factor == 1.0
