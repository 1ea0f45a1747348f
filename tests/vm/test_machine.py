"""The lane keeps its word to whoever calls it: exact codes, whole output, nothing left or touched."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.vm import initramfs
from tests.vm.__main__ import LANE_FAILED, TIMED_OUT
from tests.vm.fault import LaneFault, LaneTimeout
from tests.vm.machine import PROJECT, Command, Machine, run
from tests.vm.plugin import Lines

pytestmark = [pytest.mark.root, pytest.mark.slow]
ODD = ["a b", "", "$HOME", "'\"\\", "line\nline", "ü", "--timeout=1", "*"]
FEW = 16000
ECHO = "import json, sys; print(json.dumps(sys.argv[1:]))"


class Captured:
    """Output of one boot."""

    def __init__(self, argv: list[str], machine: Machine | None = None) -> None:
        self.out, self.err = bytearray(), bytearray()
        sinks = {"out": self.out.extend, "err": self.err.extend}
        self.code = run(Command(argv), sinks, machine or Machine(timeout=100))


PROBE = PROJECT / "vm-lane-probe"
SCRIPT = f"""
{sys.executable} -c '{ECHO}' "$@"
echo here > {PROBE} && test -s {PROBE} || exit 1
find /usr -xdev -printf x | head -c {2 * FEW}
sleep 1000 &
head -c 3000000 /dev/zero
echo noise >&2
kill -SEGV $$
"""


@pytest.fixture(scope="module")
def boot() -> "subprocess.CompletedProcess[bytes]":
    """One boot for all that can be asked of one command, which may open few files here."""
    few = ["prlimit", f"--nofile={FEW}:{FEW}", "--", sys.executable, "-m", "tests.vm"]
    argv = [*few, "--timeout=100", "--", "bash", "-c", SCRIPT, "bash", *ODD]
    return subprocess.run(argv, cwd=PROJECT, capture_output=True, check=False)


def test_arguments_arrive_as_they_are(boot: "subprocess.CompletedProcess[bytes]") -> None:
    assert boot.stdout.startswith(subprocess.check_output([sys.executable, "-c", ECHO, *ODD]))


def test_output_is_whole_and_apart_and_a_grandchild_does_not_delay_the_end(
    boot: "subprocess.CompletedProcess[bytes]",
) -> None:
    assert boot.stdout.endswith(b"x" + bytes(3_000_000))
    assert boot.stderr == b"noise\n"


def test_death_by_signal_is_128_and_its_number(
    boot: "subprocess.CompletedProcess[bytes]",
) -> None:
    assert boot.returncode == 139


def test_what_the_guest_writes_stays_in_the_guest(
    boot: "subprocess.CompletedProcess[bytes]",
) -> None:
    assert boot.returncode == 139 and not PROBE.exists()


def test_guest_may_look_at_more_files_than_the_host_may_open(
    boot: "subprocess.CompletedProcess[bytes]",
) -> None:
    assert b"x" * 2 * FEW in boot.stdout


def test_command_that_is_not_there_is_127() -> None:
    boot = Captured(["no-such-command"])
    assert boot.code == 127
    assert b"no-such-command" in boot.err


def test_time_up_kills_the_machine() -> None:
    before = _children()
    with pytest.raises(LaneTimeout):
        Captured(["sleep", "1000"], Machine(timeout=8))
    assert _children() == before


def test_machine_that_stops_by_itself_is_a_fault_and_no_exit_code() -> None:
    with pytest.raises(LaneFault, match="stopped by itself"):
        Captured(["sh", "-c", "echo c > /proc/sysrq-trigger"])


def test_file_server_that_fails_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A directory that exists here, but whose name the server reads as FROM:AT.
    odd = tmp_path / "absent:at"
    odd.mkdir()
    monkeypatch.setattr("tests.vm.share.SHARED", ("/usr", str(odd)))
    with pytest.raises(LaneFault, match=r"stopped by itself(.|\n)*No such file"):
        Captured(["true"])


def test_command_line_tells_the_three_ends_apart() -> None:
    vm = [sys.executable, "-m", "tests.vm", "--timeout=100"]
    done = subprocess.run(
        [*vm, "--", "sh", "-c", "echo hi; exit 3"], cwd=PROJECT, capture_output=True
    )
    assert (done.returncode, done.stdout) == (3, b"hi\n")
    late = subprocess.run([*vm, "--timeout=1", "--", "true"], cwd=PROJECT, capture_output=True)
    assert late.returncode == TIMED_OUT
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    refused = subprocess.run([*user, *vm, "--", "true"], cwd=PROJECT, capture_output=True)
    assert refused.returncode == LANE_FAILED


def test_modules_load_after_what_they_need(tmp_path: Path) -> None:
    (tmp_path / "modules.dep").write_text("k/c.ko: k/a-x.ko k/b.ko\nk/b.ko: k/a-x.ko\nk/a-x.ko:\n")
    order = initramfs.load_order(tmp_path, ("c", "a_x"))
    assert [path.name for path in order] == ["a-x.ko", "b.ko", "c.ko"]


def test_lines_are_cut_where_they_end_whatever_the_blocks() -> None:
    lines: list[bytes] = []
    cutter = Lines(lines.append)
    for block in (b"on", b"e\ntwo\nthr", b"ee\n"):
        cutter.feed(block)
    assert lines == [b"one", b"two", b"three"]


def _children() -> set[str]:
    """Pids of this thread's children."""
    return set(Path("/proc/thread-self/children").read_text().split())
