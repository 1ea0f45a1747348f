import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_service import FakeService, hello

from loadtest import __main__ as main
from loadtest import bench, cell, cpu, service
from loadtest.closedloop import ClosedLoad
from loadtest.measurement import Measurement, Tally
from loadtest.peers.http import HttpPeer, with_service_cpu
from loadtest.workload import Workload

FAKE = (sys.executable, str(Path(__file__).parent / "fake_service.py"))
WORKLOADS = [
    Workload(name=name, title=name, stdout="", request={}) for name in ("compiled", "python")
]


def measured(ok: int, milliseconds: float, seconds: float = 1.0) -> Measurement:
    tally = Tally()
    for _ in range(ok):
        tally.right(int(milliseconds * 1e6))
    return tally.measurement(seconds, {"node": 0.01 * ok, "generator": 5.0})


class Peer:
    def __init__(self, name: str, log: list[str], answer: Measurement | None = None) -> None:
        self.name, self.about = name, name
        self._log, self._answer = log, answer or measured(1, 1.0)

    def runs(self, workload: Workload) -> bool:
        return self.name != "C" or workload.name == "python"

    async def measure(self, workload: Workload, load: ClosedLoad) -> Measurement:
        self._log.append(f"{self.name}{load.clients}{workload.name[0]}")
        return self._answer


async def test_peers_are_interleaved_and_the_order_turns() -> None:
    log: list[str] = []
    trio = [Peer(name, log) for name in "ABC"]
    plan = bench.Plan(rounds=2, seconds=0.1, clients=(1, 8))
    results = await bench.measure(trio, WORKLOADS, plan, lambda _: None)
    assert " ".join(log) == (
        "A1c B1c A8c B8c A1p B1p C1p A8p B8p C8p B1c A1c B8c A8c B1p C1p A1p B8p C8p A8p"
    )
    assert {len(rounds) for rounds in results.values()} == {2}
    assert len(results) == 10


async def test_a_peer_that_answers_wrong_is_left_out_by_name_but_the_service_must_run() -> None:
    wrong = measured(0, 1.0).with_error("wrong_stdout", "what?\n  and why?")
    log: list[str] = []
    good, bad, silent = Peer("A", log), Peer("B", log, wrong), Peer("C", log, measured(0, 1.0))
    said: list[str] = []
    sound = await bench.warm_up([good, bad, silent], WORKLOADS, good, said.append)
    assert [peer.name for peer in sound] == ["A"]
    assert "B: compiled: wrong_stdout: what? and why?" in said[0] and "C: python: no job" in said[1]
    with pytest.raises(bench.BrokenPeerError, match="wrong_stdout"):
        await bench.warm_up([good, bad], WORKLOADS, bad, said.append)


def test_cells_are_medians_with_their_spread_and_ratios_within_a_round() -> None:
    bare = [measured(10, 1.0), measured(10, 2.0), measured(10, 4.0)]
    ours = [measured(20, 2.0), measured(20, 6.0), measured(20, 4.0)]
    results = {("compiled", 1, "bare"): bare, ("compiled", 1, "us"): ours}
    _, found = cell.cells(results)
    assert (found.samples, found.p999) == (60, None)
    assert found.p50.median == pytest.approx(4, rel=2e-3)
    assert (found.p50.low, found.p50.high) == pytest.approx((2, 6), rel=2e-3)
    assert found.p50_to_bare == pytest.approx(2, rel=4e-3)
    assert found.per_second_to_bare == 2.0
    assert found.cpu_total == pytest.approx(10.0)


def test_p999_needs_a_thousand_samples() -> None:
    (found,) = cell.cells({("compiled", 1, "us"): [measured(500, 1.0), measured(500, 3.0)]})
    assert found.p999 == pytest.approx(3, rel=2e-3)
    assert found.p50_to_bare is None


def arguments(fake: FakeService, out: Path) -> list[str]:
    return ["bench", "--url", f"http://127.0.0.1:{fake.port}", "--rounds", "1", "--seconds",
            "0.03", "--clients", "1,2", "--workloads", "compiled,python", "--local", "bare",
            "--out", str(out)]  # fmt: skip


async def bench_with(fake: FakeService, out: Path) -> int:
    options = main._parser().parse_args(arguments(fake, out))
    return int(await options.verb(options))


async def test_the_bench_writes_table_plot_and_data(
    fake: FakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await bench_with(fake, tmp_path) == 0
    text = (tmp_path / "bench.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    for peer in ("| bare ", "| bare file ", "| sandboxd "):
        assert peer in text
    assert "commit `" in text and " cores, " in text and "kernel " in text
    assert str(tmp_path) not in text and "/work/" not in text and "/root" not in text
    assert "<svg" in (tmp_path / "bench.svg").read_text()
    cells = json.loads((tmp_path / "bench.json").read_text())["cells"]
    assert {item["peer"] for item in cells} >= {"bare", "sandboxd"}
    assert all(item["samples"] > 0 for item in cells)


async def test_one_wrong_answer_makes_the_bench_fail(fake: FakeService, tmp_path: Path) -> None:
    def wrong_once(request: dict[str, object]) -> tuple[int, dict[str, object]]:
        code, answer = hello(request)
        return code, answer | ({"stdout": "?"} if fake.served == 60 else {})

    fake.answer = wrong_once
    assert await bench_with(fake, tmp_path) == 1
    assert "1 x `wrong_stdout`" in (tmp_path / "bench.md").read_text()


async def test_a_service_that_answers_wrong_from_the_start_is_not_measured(
    fake: FakeService, tmp_path: Path
) -> None:
    fake.answer = lambda _: (500, {})
    with pytest.raises(bench.BrokenPeerError, match="http_500"):
        await bench_with(fake, tmp_path)
    assert not (tmp_path / "bench.md").exists()


def test_a_service_that_is_not_there_is_exit_code_2(tmp_path: Path) -> None:
    fake = FakeService(port=1)
    assert main.main(arguments(fake, tmp_path)) == 2


@pytest.mark.parametrize(
    "bad", ["--rounds=0", "--seconds=0", "--clients=1,x", "--workloads=go", "--local=x", "--peer=x"]
)
def test_a_bad_flag_is_refused(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main.main(["bench", bad])
    assert end.value.code == 2
    assert bad.split("=")[0] in capsys.readouterr().err


async def test_a_private_service_is_started_and_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with service.private(FAKE) as started:
        client = await started.server.connect()
        client.close()
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
    assert not Path(f"/proc/{started.pid}").exists()


async def test_cpu_of_a_service_is_split_and_its_death_is_an_error() -> None:
    hello_request = Workload(name="h", title="", stdout="hello\n", request={})
    async with service.private(FAKE) as started:
        peer = HttpPeer("us", "", started.server, started.pid)
        found = await peer.measure(hello_request, ClosedLoad(clients=2, seconds=9, max_jobs=500))
        assert (found.ok, found.errors) == (500, {})
        assert found.cpu["serve"] > 0 and found.cpu["generator"] > 0
        before = cpu.read(started.pid)
    found = await with_service_cpu(found, before, started.pid)
    assert found.errors == {"service_restarted": 1}


def test_a_terminated_bench_leaves_no_service_behind(tmp_path: Path) -> None:
    code = (
        f"from loadtest import __main__ as main, service\nservice.COMMAND = {FAKE!r}\n"
        "arguments = ['bench', '--local=bare', '--seconds=20', '--rounds=1', '--clients=1']\n"
        f"raise SystemExit(main.main([*arguments, '--out={tmp_path / 'out'}']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(main.__file__).parents[1], stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as process:  # fmt: skip
        started = _children_once_measuring(process.pid)
        process.terminate()
        assert process.wait(30) == 143
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


def _children_once_measuring(pid: int) -> set[int]:
    """The service and the driver of a command peer: all children of a bench under way."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        children = {p.pid: p for p in cpu.processes().values() if p.parent == pid}
        if any(p.argv[0].endswith("/spawn") and "20.000000" in p.argv for p in children.values()):
            return set(children)
        time.sleep(0.05)
    raise AssertionError("the bench did not come to measure")


async def test_a_private_service_that_dies_is_quoted() -> None:
    with pytest.raises(service.ServiceError, match="no kernel today"):
        async with service.private((*FAKE, "--broken")):
            raise AssertionError("it cannot have started")
