"""Facts of the machine for the head of a report; nothing that names the machine or its paths."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct


class Host(Struct, frozen=True, kw_only=True):
    date: str
    commit: str
    cpu: str
    cores: int
    memory: int
    """Bytes."""
    kernel: str
    system: str
    load: float
    """Load average of the last minute, before the first measurement."""

    @property
    def line(self) -> str:
        return (
            f"{self.date}, commit `{self.commit}`; {self.cpu}, {self.cores} cores, kernel "
            f"{self.kernel}; load average {self.load:.2f} at the start"
        )


def facts() -> Host:
    return Host(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=_commit(),
        cpu=_after("/proc/cpuinfo", "model name"),
        cores=len(os.sched_getaffinity(0)),
        memory=int(_after("/proc/meminfo", "MemTotal").split()[0]) * 1024,
        kernel=platform.release(),
        system=platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        load=os.getloadavg()[0],
    )


class Clock(Struct, frozen=True):
    """Ticks of all cores since boot."""

    total: int
    idle: int
    stolen: int

    @classmethod
    def read(cls) -> "Clock":
        with open("/proc/stat") as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
        return cls(total=sum(ticks), idle=ticks[3] + ticks[4], stolen=ticks[7])

    def busy_since(self, before: "Clock") -> float:
        """CPU seconds that all of the machine's cores have worked."""
        ticks = (
            self.total - before.total - (self.idle - before.idle) - (self.stolen - before.stolen)
        )
        return ticks / os.sysconf("SC_CLK_TCK")

    def stolen_since(self, before: "Clock") -> float:
        """Share of the time that the hypervisor gave to others."""
        return (self.stolen - before.stolen) / max(1, self.total - before.total)


def _after(file: str, label: str) -> str:
    for line in Path(file).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == label:
            return value.strip()
    return "unknown"


def _commit() -> str:
    """Short hash, `-dirty` if tracked files differ; `unknown` outside a clone."""
    here = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=here, capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip()
