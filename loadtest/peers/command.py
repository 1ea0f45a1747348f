"""Peers that are a command on this machine, driven by `programs/spawn.c`."""

import asyncio
import os
import shutil
import signal
import struct
import subprocess
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from loadtest.closedloop import ClosedLoad
from loadtest.measurement import Measurement, histogram
from loadtest.peers.peer import NotHereError, PeerError
from loadtest.workload import Workload

_REPORT = struct.Struct("=7Q")
_PATIENCE = 60.0
"""Seconds beyond the load's own after which the driver and its jobs are killed."""


def installed(name: str) -> str:
    """Path of a program. Raises NotHereError."""
    found = shutil.which(name)
    if found is None:
        raise NotHereError(f"{name}: not installed")
    return found


def first_line(name: str, *argv: str) -> str:
    """What `argv` says of itself first, such as its version. Raises NotHereError if it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotHereError(f"{name}: {_words(error)}") from error
    return (done.stdout or done.stderr).strip().splitlines()[0]


def _words(error: Exception) -> str:
    said = getattr(error, "stderr", None)
    return str(said).strip()[-300:] if said else f"{type(error).__name__}"


class CommandPeer:
    """`commands` are argv by name of the workload; in them, `{client}` is the number of the client.
    `driver` stands before the command that runs them."""

    def __init__(
        self,
        name: str,
        about: str,
        spawn: Path,
        commands: Mapping[str, list[str]],
        driver: Sequence[str] = (),
    ) -> None:
        self.name, self.about = name, about
        self._driver, self._commands = [*driver, str(spawn)], commands

    def runs(self, workload: Workload) -> bool:
        return workload.name in self._commands

    async def measure(self, workload: Workload, load: ClosedLoad) -> Measurement:
        return await self.end(await self.start(workload, load), load)

    async def start(self, workload: Workload, load: ClosedLoad) -> asyncio.subprocess.Process:
        """The driver, which is to be waited for by `end`."""
        numbers = (str(load.clients), f"{load.seconds:.6f}", str(load.max_jobs))
        return await asyncio.create_subprocess_exec(
            *self._driver, *numbers, workload.stdout, *self._commands[workload.name],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    async def end(self, driver: asyncio.subprocess.Process, load: ClosedLoad) -> Measurement:
        """Raises PeerError."""
        return parse(*await drive(self.name, driver, load))


class DaemonPeer(CommandPeer):
    """A command that asks a daemon to do the work: the CPU that is spent there is not seen."""

    async def measure(self, workload: Workload, load: ClosedLoad) -> Measurement:
        return without_jobs(await super().measure(workload, load))


async def drive(
    name: str, driver: asyncio.subprocess.Process, load: ClosedLoad
) -> tuple[bytes, str]:
    """What a driver, which leads a session, printed, and what its jobs said. Raises PeerError."""
    try:
        async with asyncio.timeout(load.seconds + _PATIENCE):
            report, stderr = await driver.communicate()
    except TimeoutError as error:
        raise PeerError(f"{name}: a job did not end") from error
    finally:
        if driver.returncode is None:
            os.killpg(driver.pid, signal.SIGKILL)
            await driver.wait()
    words = stderr.decode("utf-8", "replace")
    if driver.returncode:
        raise PeerError(f"{name}: the driver ended with {driver.returncode}: {words[-500:]}")
    return report, words


def without_jobs(measured: Measurement) -> Measurement:
    """The same without the CPU of the jobs, which was spent where we do not see it."""
    seen = {name: spent for name, spent in measured.cpu.items() if name == "generator"}
    return msgspec.structs.replace(measured, cpu=seen)


def parse(report: bytes, stderr: str) -> Measurement:
    """From what `spawn` printed; `stderr` is the jobs' own."""
    head = _REPORT.unpack_from(report)
    ok, not_started, wrong_exit, wrong_stdout, elapsed, own_cpu, jobs_cpu = head
    latencies = array("Q", report[_REPORT.size :])
    if len(latencies) != ok:
        raise PeerError(f"{len(latencies)} latencies of {ok} jobs")
    counts = {
        "not_started": not_started, "wrong_exit_code": wrong_exit, "wrong_stdout": wrong_stdout,
    }  # fmt: skip
    errors = {kind: count for kind, count in counts.items() if count}
    return Measurement(
        histogram=histogram(latencies),
        ok=ok,
        errors=errors,
        examples=dict.fromkeys(errors, stderr[:500]),
        seconds=elapsed / 1e9,
        cpu={"generator": own_cpu / 1e9, "sandboxes": jobs_cpu / 1e9},
    )
