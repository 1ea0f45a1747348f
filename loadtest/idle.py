"""Sandboxes that are open and do nothing: what they cost, and whether one that streams feels them."""

import asyncio
import json
import time
from statistics import median

from websockets.sync.client import connect

from loadtest import footprint
from loadtest.peers.http import Server
from loadtest.sessions import Caller, Plan, Row, row, timed


async def measure(server: Server, plan: Plan, pid: int | None) -> list[Row]:
    """A stream by itself, then beside many sandboxes that are open and do nothing; a command beside
    them; and what each of them has added to the service's memory."""
    caller = Caller(server)
    opened = [await caller.create()]
    try:
        with _Echo(server, opened[0]) as echo:
            alone = await asyncio.to_thread(echo.trips, plan.samples)
            before = _resident(pid)
            while len(opened) <= plan.idle:
                opened.append(await caller.create())
            await asyncio.sleep(2.0)  # what their creation left to do is done
            after = _resident(pid)
            beside = await asyncio.to_thread(echo.trips, plan.samples)
        commands = [await timed(caller.run(opened[0])) for _ in range(plan.samples)]
    finally:
        for sandbox in opened:
            await caller.ask("DELETE", sandbox)
        caller.close()
    count = f"{plan.idle} sandboxes are idle"
    rows = [
        row("there and back in a stream", alone, 3.0),
        row(f"there and back in a stream while {count}", beside, median(alone) * 1e3 * 1.2),
        row(f"exec while {count}", commands, 3.0),
    ]
    if before and after:
        grown = (after - before) / plan.idle / 1024
        rows.append(
            Row(
                what="memory of the service for each idle session", unit="KiB", p50=grown,
                p99=None, samples=1, goal=100.0, note="all its processes but the sandboxes'",
            )
        )  # fmt: skip
    return rows


class _Echo:
    """`cat` in a sandbox, over a WebSocket. Blocks."""

    def __init__(self, server: Server, sandbox: str) -> None:
        headers = {"Authorization": f"Bearer {server.key}"} if server.key else None
        self._socket = connect(
            f"ws://{server.host}:{server.port}{sandbox}/exec?on_disconnect=kill",
            additional_headers=headers, compression=None, proxy=None,
        )  # fmt: skip
        self._socket.send(json.dumps({"command": ["cat"], "stdin": True}))
        self._socket.recv(server.timeout)  # it has started

    def trips(self, count: int) -> list[float]:
        """Seconds from a line that is sent until it is back."""
        found = []
        for number in range(count):
            began = time.perf_counter()
            self._socket.send(b"\0%d\n" % number)
            if self._socket.recv(30) != b"\1%d\n" % number:
                raise RuntimeError("cat said something else")
            found.append(time.perf_counter() - began)
            time.sleep(0.002)
        return found

    def __enter__(self) -> "_Echo":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _resident(pid: int | None) -> int:
    """Bytes of memory of the service's own processes, without its sandboxes."""
    return sum(footprint.memory(pid).values()) if pid else 0
