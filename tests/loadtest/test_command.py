import struct
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest

from loadtest import peers, workload
from loadtest.closedloop import ClosedLoad
from loadtest.peers import PeerError, docker, isolate, nsjail
from loadtest.peers.command import CommandPeer, parse
from loadtest.workload import Programs, Workload

HELLO = Workload(name="compiled", title="t", stdout="hello\n", request={})
LOAD = ClosedLoad(clients=2, seconds=20.0, max_jobs=8)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return workload.build(tmp_path_factory.mktemp("programs"))


def command(programs: Programs, *argv: str) -> CommandPeer:
    return CommandPeer("test", "", programs.spawn, {"compiled": list(argv)})


async def test_every_local_peer_that_is_installed_answers_right(programs: Programs) -> None:
    said: list[str] = []
    with ExitStack() as cleanup:
        for peer in peers.local(programs, cleanup, said.append):
            for item in workload.workloads(programs).values():
                if peer.runs(item):
                    measured = await peer.measure(item, LOAD)
                    assert (peer.name, measured.ok, measured.samples) == (peer.name, 8, 8), measured
                    assert ("sandboxes" in measured.cpu) == (peer.name != "docker")
                    assert str(programs.hello.parent) not in peer.about
    assert all(line.startswith("left out: ") for line in said)


async def test_wrong_output_and_wrong_exits_are_told_apart(programs: Programs) -> None:
    for argv, kind in (
        (["/bin/echo", "hullo"], "wrong_stdout"),
        (["/bin/sh", "-c", "echo hello; echo sorry >&2; exit 3"], "wrong_exit_code"),
        (["/bin/sh", "-c", "echo hello; kill -9 $$"], "wrong_exit_code"),
        (["/bin/sh", "-c", "yes | head -c 10000"], "wrong_stdout"),
        (["/nowhere/hello"], "not_started"),
    ):
        measured = await command(programs, *argv).measure(HELLO, LOAD)
        assert (measured.ok, measured.errors) == (0, {kind: 8})
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
    burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
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
    assert measured.ok == 8


def test_a_report_cut_short_is_refused() -> None:
    whole = struct.pack("=7Q", 2, 0, 0, 0, 10**9, 0, 0) + struct.pack("=2Q", 1, 2)
    assert parse(whole, "").ok == 2
    with pytest.raises(PeerError):
        parse(whole[:-8], "")


def test_what_is_not_installed_is_no_peer(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    said: list[str] = []
    with ExitStack() as cleanup:
        found = peers.local(programs, cleanup, said.append)
    assert [peer.name for peer in found] == ["bare", "bare file"]
    absent = ("bwrap", "nsjail", "isolate", "runc", "crun", "runsc", "podman", "docker")
    assert said == [f"left out: {name}: not installed" for name in absent]


async def test_each_client_has_a_number_of_its_own(programs: Programs, tmp_path: Path) -> None:
    log = tmp_path / "log"
    say = f"echo {{client}} >> {log}; sleep 0.05; echo hello"
    measured = await command(programs, "/bin/sh", "-c", say).measure(HELLO, LOAD)
    assert measured.ok == 8
    assert set(log.read_text().split()) == {"0", "1"}


STAND_IN = """#!/bin/sh
echo "$@" >> {log}
case "$1" in
version) echo docker 99 ;;
import) cat > /dev/null; echo sha256:feed ;;
--version) echo isolate 99 ;;
esac
for last in "$@"; do :; done
case "$last" in
*hello) exec {hello} ;;
*print*) exec /usr/bin/python3 -c "$last" ;;
esac
"""


@pytest.mark.parametrize(
    ("adapter", "expected"),
    [
        (nsjail, ["--mode o --really_quiet", "--bindmount_ro {hello}:/hello -- /hello"]),
        (isolate, ["--box-id=1 --init", "--box-id=0 --silent --run", "--box-id=1 --cleanup"]),
        (docker, ["run --rm --network=none", "sha256:feed /hello", "image rm --force sha256:feed"]),
    ],
)
async def test_what_is_seldom_installed_is_asked_as_its_manual_says(
    adapter: ModuleType,
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a stand-in that notes its arguments and runs the program without any sandbox."""
    programs = workload.build(tmp_path)
    name, log = adapter.__name__.rpartition(".")[2], tmp_path / "log"
    stand_in = tmp_path / "bin" / name
    stand_in.parent.mkdir()
    stand_in.write_text(STAND_IN.format(log=log, hello=programs.hello))
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}:/usr/bin:/bin")
    with ExitStack() as cleanup:
        [peer] = adapter.peers(programs, cleanup)
        for item in workload.workloads(programs).values():
            measured = await peer.measure(item, LOAD)
            assert (measured.ok, measured.errors) == (8, {})
    asked = log.read_text()
    for words in expected:
        assert words.format(hello=programs.hello) in asked


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
