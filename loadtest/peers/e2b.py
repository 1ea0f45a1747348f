"""E2B, or what speaks as it does, asked by E2B's own client: create, one command, kill."""

import asyncio
import os
from pathlib import Path

from loadtest.closedloop import ClosedLoad
from loadtest.e2b import PYTHON
from loadtest.measurement import Measurement
from loadtest.peers.command import drive, parse, without_jobs
from loadtest.peers.peer import PeerError
from loadtest.workload import Workload

_DRIVER = Path(__file__).with_name("e2b_driver.py")


class E2bPeer:
    """The client is the one of `make compat`, in a process of its own; its time is in the latencies."""

    name = "e2b"
    about = (
        "E2B's asyncio client: a sandbox created, `python3 -c`, killed; its CPU is not seen, that of "
        "the client is the generator's"
    )

    def __init__(self, url: str, key: str | None) -> None:
        self._url, self._key = url, key

    def runs(self, workload: Workload) -> bool:
        return workload.name == "python"

    async def measure(self, workload: Workload, load: ClosedLoad) -> Measurement:
        if not PYTHON.exists():
            raise PeerError("e2b: `make compat` installs its client")
        numbers = (str(load.clients), f"{load.seconds:.6f}", str(load.max_jobs))
        environment = {
            "E2B_API_KEY": self._key or "none", "PATH": os.environ["PATH"],
            "E2B_API_URL": self._url, "E2B_SANDBOX_URL": self._url,
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            str(PYTHON), "-P", str(_DRIVER), *numbers, workload.stdout, env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        report, words = await drive(self.name, process, load)
        return without_jobs(parse(report, words))
