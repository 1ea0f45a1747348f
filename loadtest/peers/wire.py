"""Peers that are asked by URL: `KIND=http://host:port/base`, a key in `LOADTEST_KIND_KEY`."""

import os

import msgspec

from loadtest import closedloop
from loadtest.closedloop import ClosedLoad
from loadtest.job import Job
from loadtest.measurement import Measurement
from loadtest.peers import e2b
from loadtest.peers.dialects import DIALECTS, Dialect
from loadtest.peers.http import Server
from loadtest.peers.peer import Peer
from loadtest.workload import Workload

KINDS = (*DIALECTS, "e2b")


class WirePeer:
    def __init__(self, name: str, dialect: Dialect, server: Server) -> None:
        self.name, self.about = name, f"{dialect.about}, asked by URL; its CPU is not seen"
        self._dialect, self.server = dialect, server
        self._jobs: dict[str, Job] = {}

    def runs(self, workload: Workload) -> bool:
        return workload.name in self._dialect.workloads

    async def measure(self, workload: Workload, load: ClosedLoad) -> Measurement:
        job = self._jobs.get(workload.name)
        if job is None:
            job = self._jobs[workload.name] = await self._prepared(workload)
        return await closedloop.measure(self.server.connect, lambda _: job, load)

    async def _prepared(self, workload: Workload) -> Job:
        client = await self.server.connect()
        try:
            return await self._dialect.job(client, workload)
        finally:
            client.close()


def peer(text: str) -> Peer:
    """Raises ValueError."""
    kind, equals, url = text.partition("=")
    if not equals or kind not in KINDS:
        raise ValueError(f"{text}: expected KIND=URL, where KIND is one of {', '.join(KINDS)}")
    key = os.environ.get(f"LOADTEST_{kind.upper().replace('-', '_')}_KEY")
    if kind == "e2b":
        return e2b.E2bPeer(url, key)
    dialect = DIALECTS[kind]
    server = msgspec.structs.replace(Server.of(url, key), key_header=dialect.key_header)
    return WirePeer(kind if kind != "sandboxd" else "sandboxd by URL", dialect, server)
