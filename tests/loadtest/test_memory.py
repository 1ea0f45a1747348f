"""What sandboxes hold in memory, of the real service and of a peer beside it."""

from contextlib import ExitStack

import msgspec
import pytest

from loadtest import memory, report, workload
from loadtest.cpu import Process
from loadtest.peers import bare
from loadtest.peers.command import CommandPeer
from loadtest.peers.http import HttpPeer, Server
from loadtest.workload import SLEEP
from tests.patience import PATIENCE
from tests.service.instance import Service


@pytest.mark.root
@pytest.mark.service
async def test_a_sandbox_is_counted_with_all_its_processes_and_those_that_wait_are_small(
    service: Service, tmp_path_factory: pytest.TempPathFactory
) -> None:
    programs = workload.build(tmp_path_factory.mktemp("programs"))
    server = msgspec.structs.replace(Server.of(service.url), timeout=60.0 * PATIENCE)
    ours = HttpPeer("sandboxd", "", server, service.pid)
    # A shell that stays beside its child: both are of the sandbox.
    two = ["/bin/sh", "-c", f'/usr/bin/python3 -I -S -c "{SLEEP}"; true']
    with ExitStack() as cleanup:
        [plain, _] = bare.peers(programs, cleanup)
    pair = CommandPeer("pair", "", programs.spawn, {"asleep": two})
    said = list[str]()
    found = await memory.measure([plain, pair, ours], ours, said.append)
    assert said == []
    rows = {row.what.partition(":")[0]: row for row in found}
    assert 1 << 20 < rows["bare"].rest < rows["pair"].rest < 8 << 20
    assert 1 << 20 < rows["sandboxd"].rest <= (rows["sandboxd"].peak or 0) < 64 << 20
    for what in ("sandbox that waits", "python3 that waits, in its sandbox"):
        row = rows[what]
        assert row.goal and 0 < row.rest <= row.goal and 0 < (row.charged or 0) <= row.goal
    assert all(rows[role].rest > 1 << 20 for role in ("gateway", "node", "redis"))
    text = "\n".join(report.memory(list(rows.values())))
    assert "| sandbox that waits" in text and "≤ 0.50" in text


async def test_a_program_that_ends_wrong_is_no_measurement_and_costs_none_of_the_others(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    programs = workload.build(tmp_path_factory.mktemp("programs"))
    broken = CommandPeer("broken", "", programs.spawn, {"asleep": ["/bin/sh", "-c", "exit 3"]})
    with ExitStack() as cleanup:
        [plain, _] = bare.peers(programs, cleanup)
    ours = HttpPeer("sandboxd", "", Server(host="127.0.0.1", port=1), None)
    said = list[str]()
    found = await memory.measure([broken, plain], ours, said.append)
    assert [row.what for row in found] == ["bare"]
    assert len(said) == 1 and said[0].startswith("memory of broken: {'wrong_exit_code': 1}")


def test_those_below_a_process_are_all_its_descendants_and_no_others() -> None:
    parents = {2: 1, 3: 2, 4: 3, 5: 1, 6: 5}
    table = {
        pid: Process(pid=pid, parent=parent, started=0, own=0.0, waited_for=0.0)
        for pid, parent in parents.items()
    }
    assert sorted(memory.below(2, table)) == [3, 4]
    assert memory.below(6, table) == []
