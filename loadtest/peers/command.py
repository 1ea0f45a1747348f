"""Peers that are a command on this machine, driven by `programs/spawn.c`."""

import asyncio
import os
import signal
import struct
from array import array
from collections.abc import Mapping
from pathlib import Path

from loadtest.closedloop import ClosedLoad
from loadtest.measurement import Measurement, histogram
from loadtest.peers.peer import PeerError
from loadtest.workload import Workload

_REPORT = struct.Struct("=7Q")
_PATIENCE = 60.0
"""Seconds beyond the load's own after which the driver and its jobs are killed."""


class CommandPeer:
    """`commands` are argv by name of the workload."""

    def __init__(
        self, name: str, about: str, spawn: Path, commands: Mapping[str, list[str]]
    ) -> None:
        self.name, self.about = name, about
        self._spawn, self._commands = spawn, commands

    def runs(self, workload: Workload) -> bool:
        return workload.name in self._commands

    async def measure(self, workload: Workload, load: ClosedLoad) -> Measurement:
        numbers = (str(load.clients), f"{load.seconds:.6f}", str(load.max_jobs))
        driver = await asyncio.create_subprocess_exec(
            str(self._spawn), *numbers, workload.stdout, *self._commands[workload.name],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        try:
            async with asyncio.timeout(load.seconds + _PATIENCE):
                report, stderr = await driver.communicate()
        except TimeoutError as error:
            raise PeerError(f"{self.name}: a job did not end") from error
        finally:
            if driver.returncode is None:
                os.killpg(driver.pid, signal.SIGKILL)
                await driver.wait()
        if driver.returncode:
            raise PeerError(f"{self.name}: the driver ended with {driver.returncode}")
        return parse(report, stderr.decode("utf-8", "replace"))


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
