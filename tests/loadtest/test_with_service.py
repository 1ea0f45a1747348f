"""The tool against the real service: every scenario that we ship, every kind of peer by URL."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from loadtest import run, scenario, workload
from loadtest.closedloop import ClosedLoad
from loadtest.e2b import PYTHON
from loadtest.peers import wire
from loadtest.peers.http import Server
from loadtest.workload import Workload
from tests.patience import PATIENCE
from tests.service.instance import Service

pytestmark = [pytest.mark.root, pytest.mark.service]

SCENARIOS = sorted((Path(scenario.__file__).parent / "scenarios").glob("*.toml"))
COMPAT = {"piston": "piston", "judge0": "judge0", "go-judge": "go_judge", "e2b": "e2b"}


@pytest.fixture(scope="module")
def workloads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Workload]]:
    yield workload.workloads(workload.build(tmp_path_factory.mktemp("programs")))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
async def test_a_second_of_every_scenario_comes_out_right(
    path: Path, service: Service, workloads: dict[str, Workload]
) -> None:
    """In the order of its seed, until each kind has come; at a rate that a busy machine holds too."""
    found = scenario.read(path)
    pick, kinds = scenario.sequence(found, workloads), {job.name for job in found.jobs}
    jobs = 1
    while {pick(index).name for index in range(jobs)} != kinds:
        jobs += 1
    jobs = max(jobs, found.burst)
    assert jobs <= 20
    short = msgspec.structs.replace(
        found, rate=float(jobs), seconds=1.0, warm_up=0.0, timeout=30 * PATIENCE
    )
    server = msgspec.structs.replace(Server.of(service.url), timeout=short.timeout)
    outcome = await run.run(short, server, None, workloads)
    assert outcome.total.errors == {}, outcome.total.examples
    assert outcome.total.ok == jobs and set(outcome.by_job) == kinds


@pytest.mark.parametrize("kind", wire.KINDS)
async def test_a_peer_by_url_gives_the_right_answers(
    kind: str, service: Service, workloads: dict[str, Workload]
) -> None:
    """Our own adapters stand for the services whose API they speak."""
    if kind == "e2b" and not PYTHON.exists():
        pytest.skip("make compat installs E2B's client")
    base = f"/compat/{COMPAT[kind]}" if kind in COMPAT else ""
    peer = wire.peer(f"{kind}={service.url}{base}")
    load = ClosedLoad(clients=2, seconds=30.0 * PATIENCE, max_jobs=6)
    ran = [item for item in workloads.values() if peer.runs(item)]
    for item in ran:
        measured = await peer.measure(item, load)
        assert (measured.ok, measured.errors) == (6, {}), measured.examples
        # An answer that differs from what the workload prints is seen.
        other = msgspec.structs.replace(item, stdout="something else\n")
        wrong = await wire.peer(f"{kind}={service.url}{base}").measure(other, load)
        assert wrong.ok == 0 and wrong.failed == 6
    assert ran and urlsplit(service.url).hostname not in peer.about


async def test_a_service_that_is_no_judge0_is_a_broken_peer(service: Service) -> None:
    """The kind is believed by nobody: the answers are looked at."""
    peer = wire.peer(f"judge0={service.url}/compat/piston")
    item = Workload(name="python", title="", stdout="1\n", request={"source": "print(1)"})
    measured = await peer.measure(item, ClosedLoad(clients=1, seconds=9.0, max_jobs=2))
    assert measured.ok == 0 and "http_404" in measured.errors
