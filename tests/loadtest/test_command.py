import struct
import subprocess
from pathlib import Path

import pytest

from loadtest import peers, workload
from loadtest.closedloop import ClosedLoad
from loadtest.peers import PeerError, bubblewrap
from loadtest.peers.command import CommandPeer, parse
from loadtest.workload import Programs, Workload

HELLO = Workload(name="compiled", title="t", stdout="hello\n", request={})
LOAD = ClosedLoad(clients=2, seconds=20.0, max_jobs=20)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return workload.build(tmp_path_factory.mktemp("programs"))


def command(programs: Programs, *argv: str) -> CommandPeer:
    return CommandPeer("test", "", programs.spawn, {"compiled": list(argv)})


async def test_every_local_peer_that_is_installed_answers_right(programs: Programs) -> None:
    for peer in peers.local(programs):
        for item in workload.workloads(programs).values():
            if peer.runs(item):
                measured = await peer.measure(item, LOAD)
                assert (peer.name, measured.ok, measured.samples) == (peer.name, 20, 20), measured
                assert measured.cpu["sandboxes"] > 0


async def test_wrong_output_and_wrong_exits_are_told_apart(programs: Programs) -> None:
    for argv, kind in (
        (["/bin/echo", "hullo"], "wrong_stdout"),
        (["/bin/sh", "-c", "echo hello; echo sorry >&2; exit 3"], "wrong_exit_code"),
        (["/bin/sh", "-c", "echo hello; kill -9 $$"], "wrong_exit_code"),
        (["/bin/sh", "-c", "yes | head -c 10000"], "wrong_stdout"),
        (["/nowhere/hello"], "not_started"),
    ):
        measured = await command(programs, *argv).measure(HELLO, LOAD)
        assert (measured.ok, measured.errors) == (0, {kind: 20})
        if "sorry" in argv[-1]:
            assert measured.examples[kind].startswith("sorry")


async def test_a_command_that_only_fails_is_given_up(programs: Programs) -> None:
    load = ClosedLoad(clients=2, seconds=60.0)
    measured = await command(programs, "/bin/false").measure(HELLO, load)
    assert 100 <= measured.failed <= 102


async def test_cpu_of_processes_left_behind_is_counted_and_they_are_waited_for(
    programs: Programs, tmp_path: Path
) -> None:
    """As bubblewrap does: its first process ends before the sandbox's own."""
    burn = "/usr/bin/timeout 0.2 /bin/sh -c 'while :; do :; done'"
    script = f"({burn}) >/dev/null 2>&1 & echo hello"
    load = ClosedLoad(clients=1, seconds=20.0, max_jobs=1)
    measured = await command(programs, "/bin/sh", "-c", script).measure(HELLO, load)
    assert measured.ok == 1
    assert measured.cpu["sandboxes"] > 0.05


async def test_jobs_see_neither_our_environment_nor_our_files(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "x")
    probe = 'test -z "$SECRET" && test "$(echo /proc/$$/fd/*)" != \'\' && echo hello'
    measured = await command(programs, "/bin/sh", "-c", probe).measure(HELLO, LOAD)
    assert measured.ok == 20


def test_a_report_cut_short_is_refused() -> None:
    whole = struct.pack("=7Q", 2, 0, 0, 0, 10**9, 0, 0) + struct.pack("=2Q", 1, 2)
    assert parse(whole, "").ok == 2
    with pytest.raises(PeerError):
        parse(whole[:-8], "")


def test_what_is_not_installed_is_no_peer(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert bubblewrap.peers(programs) == []


def test_the_compiled_hello_needs_nothing_of_its_root(programs: Programs) -> None:
    headers = subprocess.run(
        ["readelf", "-lW", str(programs.hello)], capture_output=True, text=True, check=True
    ).stdout
    assert "INTERP" not in headers and "DYNAMIC" not in headers


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hello.c").write_text("#error not today\n")
    monkeypatch.setattr(workload, "_SOURCES", tmp_path)
    with pytest.raises(workload.BuildError, match="not today"):
        workload.build(tmp_path)


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(workload.BuildError, match="cc"):
        workload.build(tmp_path)
