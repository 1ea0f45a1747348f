"""cgroup v2 with every controller: what production has and a hybrid machine cannot show."""

import contextlib
import os
import select
import subprocess
from pathlib import Path

from tests.vm.inside.groups import counters, python, start, wait_for

MIB = 1 << 20
NEEDED = {"cpu", "memory", "pids", "io", "cpuset"}
SPIN = "import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass"


def test_every_controller_reaches_a_new_cgroup(cgroup: Path) -> None:
    assert set((cgroup / "cgroup.controllers").read_text().split()) >= NEEDED


def test_child_is_born_in_the_cgroup(cgroup: Path) -> None:
    script = Path(__file__).with_name("born_in_cgroup.py")
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", str(script), str(cgroup)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"0::/{cgroup.name}\n"


def test_kill_ends_descendants_of_every_session(cgroup: Path) -> None:
    process = start(cgroup, ["sh", "-c", "setsid sleep 1000 & sleep 1000 & echo up; wait"])
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    (cgroup / "cgroup.kill").write_text("1")
    wait_for(cgroup, "populated 0")
    assert process.communicate()[0] == ""
    assert process.returncode == -9


def test_frozen_group_makes_no_progress_until_thawed(cgroup: Path) -> None:
    process = start(cgroup, ["yes"])
    assert process.stdout is not None
    (cgroup / "cgroup.freeze").write_text("1")
    wait_for(cgroup, "frozen 1")
    output = process.stdout.fileno()
    os.set_blocking(output, False)
    with contextlib.suppress(BlockingIOError):
        while os.read(output, 65536):
            pass
    assert select.select([output], [], [], 0.3)[0] == []
    (cgroup / "cgroup.freeze").write_text("0")
    assert select.select([output], [], [], 60)[0] == [output]
    (cgroup / "cgroup.kill").write_text("1")
    assert process.wait() == -9
    process.stdout.close()


def test_peak_remembers_memory_given_back(cgroup: Path) -> None:
    process = start(
        cgroup, python("b = bytearray(b'x') * (64 << 20)\ndel b\nprint('freed'); input()")
    )
    out, _ = process.communicate()
    assert "freed" in out
    assert int((cgroup / "memory.peak").read_text()) >= 64 * MIB
    assert int((cgroup / "memory.current").read_text()) < 64 * MIB


def test_out_of_memory_takes_the_whole_group(cgroup: Path) -> None:
    (cgroup / "memory.max").write_text(str(32 * MIB))
    (cgroup / "memory.oom.group").write_text("1")
    assert (cgroup / "memory.max").read_text() == f"{32 * MIB}\n"
    bystander = start(cgroup, ["sleep", "1000"])
    eater = start(cgroup, python("b = bytearray(b'x') * (256 << 20)"))
    eater.communicate()
    bystander.communicate()
    assert (eater.returncode, bystander.returncode) == (-9, -9)
    events = counters(cgroup / "memory.events")
    assert events["oom_kill"] >= 2
    assert events["oom_group_kill"] == 1


def test_pids_limit_refuses_and_counts_the_next_fork(cgroup: Path) -> None:
    (cgroup / "pids.max").write_text("1")
    source = "import os\ntry: os.fork()\nexcept OSError as e: print(e.errno)"
    out, _ = start(cgroup, python(source)).communicate()
    assert out == "11\n"
    assert counters(cgroup / "pids.events")["max"] == 1


def test_cpu_quota_throttles(cgroup: Path) -> None:
    (cgroup / "cpu.max").write_text("10000 100000")
    start(cgroup, python(SPIN)).communicate()
    usage = counters(cgroup / "cpu.stat")
    assert usage["nr_throttled"] >= 1
    assert usage["throttled_usec"] > 0


def test_write_limit_of_a_block_device_holds_and_is_accounted(cgroup: Path) -> None:
    device = Path("/sys/class/block/vda/dev").read_text().strip()
    (cgroup / "io.max").write_text(f"{device} wbps={MIB}")
    assert f"wbps={MIB}" in (cgroup / "io.max").read_text()
    target = "of=/var/tmp/limited"
    argv = ["dd", "if=/dev/zero", target, "bs=256k", "count=12", "oflag=direct", "status=none"]
    timed = ["/usr/bin/python3", "-I", "-S", "-c", TIME_A_COMMAND, *argv]
    out, _ = start(cgroup, timed).communicate()
    Path("/var/tmp/limited").unlink()
    assert float(out) >= 1.0
    (line,) = [text for text in (cgroup / "io.stat").read_text().splitlines() if device in text]
    written = dict(pair.split("=") for pair in line.split()[1:])["wbytes"]
    assert int(written) >= 3 * MIB


TIME_A_COMMAND = """
import subprocess, sys, time
start = time.monotonic()
subprocess.run(sys.argv[1:], check=True)
print(time.monotonic() - start)
"""
