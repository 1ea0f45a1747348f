"""A child's life hangs on its starter's."""

import os
import platform
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import sandboxd
from sandboxd.child import spawn

TETHER = Path(sandboxd.__file__).with_name("tether.py")
STARTER = """
import asyncio, os, sys
from sandboxd.child import spawn
async def main():
    uid = int(sys.argv[1]) if sys.argv[1:] else None
    child = await spawn(["/bin/sleep", "60"], uid=uid)
    print(child.pid, flush=True)
    while b"sleep" not in open(f"/proc/{child.pid}/cmdline", "rb").read():
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


@pytest.mark.parametrize("uid", [[], pytest.param(["65534"], marks=pytest.mark.root)])
def test_it_dies_with_a_killed_starter_even_as_another_user(uid: list[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, *uid], stdout=subprocess.PIPE, cwd=TETHER.parents[1]
    ) as starter:
        assert starter.stdout is not None
        child = os.pidfd_open(int(starter.stdout.readline()))
        try:
            assert select.select([child], [], [], 20)[0]  # readable at its end
        finally:
            os.close(child)


def test_it_never_runs_when_its_starter_is_gone_already(tmp_path: Path) -> None:
    theirs, ours = os.pipe()
    os.close(ours)
    command = [sys.executable, "-I", "-S", str(TETHER), str(theirs), "-"]
    try:
        code = subprocess.run(
            [*command, "/usr/bin/touch", str(tmp_path / "ran")], pass_fds=[theirs], check=False
        ).returncode
    finally:
        os.close(theirs)
    assert code in (1, -signal.SIGKILL)
    assert not (tmp_path / "ran").exists()


async def test_stop_is_polite_first_and_firm_in_the_end() -> None:
    polite = await spawn(["/bin/sh", "-c", "trap 'exit 7' TERM; echo; while :; do sleep 0.01; done"],
                         read_output=True)  # fmt: skip
    assert polite.output is not None
    await polite.output.readline()
    assert await polite.stop(20) == 7
    stubborn = await spawn(["/bin/sh", "-c", "trap '' TERM; echo; exec sleep 60"], read_output=True)
    assert stubborn.output is not None
    await stubborn.output.readline()
    assert await stubborn.stop(0.05) == -signal.SIGKILL
    assert await stubborn.stop(0) == -signal.SIGKILL


async def test_signals_that_its_starter_ignored_have_their_default_again() -> None:
    """Those too that the C library lets nobody set: a container's init may have them ignored."""
    status = "import re; print(*re.findall(r'SigIgn:\\t(\\w+)', open('/proc/self/status').read()))"
    ignoring = f"""
import asyncio, ctypes, signal, sys
from sandboxd.child import spawn
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
ignore = (1).to_bytes(8, "little") + bytes(24)
number = 13 if {platform.machine() == "x86_64"} else 134
assert ctypes.CDLL(None).syscall(number, 32, ignore, None, 8) == 0
{status}
async def main():
    child = await spawn(["/bin/grep", "SigIgn", "/proc/self/status"], read_output=True)
    print((await child.output.read()).decode().split()[1])
    await child.wait()
asyncio.run(main())
"""
    result = subprocess.run([sys.executable, "-c", ignoring], capture_output=True, text=True)
    before, after = result.stdout.split()
    assert int(before, 16) & (1 << 31 | 1 << signal.SIGUSR1 - 1), result.stderr
    assert int(after, 16) == 0


async def test_it_has_default_signals_and_only_the_descriptors_it_was_given() -> None:
    script = "grep -E 'SigIgn|SigBlk' /proc/self/status; ls /proc/self/fd | wc -l"
    child = await spawn(["/bin/sh", "-c", script], read_output=True)
    assert child.output is not None
    ignored = [(await child.output.readline()).split()[1] for _ in range(2)]
    assert ignored == [b"0" * 16] * 2
    # stdin, stdout, stderr, the line, and the one that ls opens
    assert int(await child.output.readline()) == 5
    assert await child.wait() == 0
