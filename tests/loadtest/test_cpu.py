import subprocess
import sys

import pytest

from loadtest import cpu
from loadtest.cpu import Process


def process(pid: int, parent: int, own: float, waited: float, *argv: str) -> Process:
    return Process(pid=pid, parent=parent, started=pid, own=own, waited_for=waited, argv=argv)


def table(*processes: Process) -> dict[int, Process]:
    return {found.pid: found for found in processes}


SERVE = process(10, 1, 1.0, 0.5, "python", "-m", "sandboxd.cli.main", "serve")
REDIS = process(11, 10, 2.0, 0.0, "/usr/bin/redis-server unixsocket:/run/x", "")
GATEWAY = process(
    12, 10, 3.0, 0.0, "python", "-m", "sandboxd.cli.main", "--set", "node.id=node", "gateway"
)
NODE = process(13, 10, 4.0, 7.0, "python", "--set", "gateway.listen=127.0.0.1:1", "node")
INIT = process(14, 13, 0.25, 0.5, "sandbox-init")
INSIDE = process(15, 14, 0.125, 0.0, "redis-server", "gateway")
STRANGER = process(16, 1, 99.0, 99.0, "node")


def test_time_is_split_by_process_and_strangers_are_left_out() -> None:
    found = cpu.usage(10, table(SERVE, REDIS, GATEWAY, NODE, INIT, INSIDE, STRANGER))
    assert found.seconds == {
        "serve": 1.5,
        "redis": 2.0,
        "gateway": 3.0,
        "node": 4.0,
        "sandboxes": 7.0 + 0.25 + 0.5 + 0.125,
    }


def test_a_sandbox_that_came_and_went_between_readings_is_counted() -> None:
    before = cpu.usage(10, table(SERVE, NODE, INIT))
    reaped = process(13, 10, 4.5, 9.0, "node")
    after = cpu.usage(10, table(SERVE, reaped))
    assert cpu.between(before, after) == {"serve": 0.0, "node": 0.5, "sandboxes": 1.25}


def test_a_restarted_process_is_no_difference_but_an_error() -> None:
    before = cpu.usage(10, table(SERVE, NODE))
    after = cpu.usage(10, table(SERVE, process(33, 10, 0.0, 0.0, "node")))
    with pytest.raises(cpu.RestartedError, match="node"):
        cpu.between(before, after)


def test_a_short_lived_child_of_redis_is_no_restart() -> None:
    child = process(40, 11, 0.5, 0.0, "redis-server")
    before = cpu.usage(10, table(SERVE, REDIS, child))
    after = cpu.usage(10, table(SERVE, process(11, 10, 2.0, 0.5, "redis-server")))
    assert cpu.between(before, after)["redis"] == 0.0


def test_a_name_full_of_brackets_is_parsed() -> None:
    stat = b"7 (a) b (c)) S 3 7 7 0 -1 4194304 1 2 3 4 150 50 25 75 20 0 1 0 12345 1 2 3"
    found = cpu.parse(7, stat, b"a\0b\0")
    assert (found.parent, found.started, found.argv) == (3, 12345, ("a", "b"))
    assert (found.own, found.waited_for) == (200 * cpu._TICK, 100 * cpu._TICK)


def test_a_real_child_that_has_ended_is_seen() -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    run = f"subprocess.run([sys.executable, '-c', {burn!r}])"
    code = f"import subprocess, sys; {run}; print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        used = cpu.read(parent.pid).seconds["serve"]
        parent.communicate(b"\n")
    assert used >= 0.15


def test_a_service_that_is_gone_is_said() -> None:
    with pytest.raises(ProcessLookupError):
        cpu.usage(10, {})
