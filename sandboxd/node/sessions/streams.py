"""The output of a process, as it is kept for later and as it goes to those who watch.

A process writes into pipes (or a terminal), which are read as they fill. What is read goes into the
ring of its stream, and to every viewer. One who does not keep up loses what does not fit into a
buffer of its own, and is told so at that place; but as long as it is the only viewer, the process
waits for it instead, as it would for a pipe.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable

from sandboxd.descriptors import Reader
from sandboxd.model.agent import Kind, Missed
from sandboxd.node.sessions.ring import Ring

CHUNK = 65_536
_AHEAD = 1 << 20
"""Bytes that a viewer may be behind."""
_LAST = 1 << 20
"""Bytes that are read at most once the process has ended: a full pipe. Who holds it yet may go on."""

Item = tuple[Kind, bytes] | Missed


class Viewer:
    def __init__(self, streams: "Streams") -> None:
        self._streams = streams
        self._items: deque[tuple[Kind, bytes]] = deque()
        self._news = asyncio.Event()
        self._missed = {Kind.DATA: 0, Kind.STDERR: 0}
        self._ended = False
        self.behind = 0

    def offer(self, kind: Kind, data: bytes, *, must: bool) -> None:
        """More output. Unless it `must` be kept, it is counted as missed where the buffer is full."""
        if not must and (self.behind + len(data) > _AHEAD or any(self._missed.values())):
            self._missed[kind] += len(data)
        else:
            self._items.append((kind, data))
            self.behind += len(data)
        self._news.set()

    def end(self) -> None:
        self._ended = True
        self._news.set()

    async def next(self) -> Item | None:
        """What comes next; None at the end."""
        while True:
            if self._items:
                kind, data = self._items.popleft()
                self.behind -= len(data)
                self._streams.settle()
                return kind, data
            if any(self._missed.values()):
                missed = Missed(self._missed[Kind.DATA], self._missed[Kind.STDERR])
                self._missed = {Kind.DATA: 0, Kind.STDERR: 0}
                return missed
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()


class Output:
    """One stream: a descriptor that is read, and the ring of what came. Owns the descriptor."""

    def __init__(self, kind: Kind, cap: int, streams: "Streams", lost: bool) -> None:
        self.kind, self.ring, self._streams = kind, Ring(cap, lost=lost), streams
        self._reader = Reader(-1, self._read)

    @property
    def open(self) -> bool:
        return self._reader.fd >= 0

    @property
    def fd(self) -> int:
        return self._reader.fd

    def start(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._reader = Reader(fd, self._read)
        self.resume()

    def resume(self) -> None:
        self._reader.resume()

    def pause(self) -> None:
        self._reader.pause()

    def _read(self) -> int:
        """Bytes read; 0 if there are none now, or no more ever."""
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return 0
        except OSError:  # EIO: nobody has the terminal any more
            data = b""
        if not data:
            self.close()
            return 0
        self.ring.append(data)
        self._streams.more(self.kind, data)
        return len(data)

    def drain(self) -> None:
        """Take what an ended process left in its pipe."""
        left = _LAST
        while left > 0 and self.open:
            size = self._read()
            if not size:
                return
            left -= size

    def close(self) -> None:
        if self.open:
            self._reader.close()
            self._streams.closed()


class Streams:
    def __init__(self, cap: int, on_closed: Callable[[], None], *, lost: bool = False) -> None:
        """Keeps `cap` bytes of each; `on_closed` when nobody can write any more. `lost`: what was
        written so far has gone with a node."""
        self.stdout = Output(Kind.DATA, cap, self, lost)
        self.stderr = Output(Kind.STDERR, cap, self, lost)
        self._viewers: list[Viewer] = []
        self._on_closed = on_closed

    @property
    def outputs(self) -> tuple[Output, Output]:
        return self.stdout, self.stderr

    @property
    def open(self) -> bool:
        return self.stdout.open or self.stderr.open

    def more(self, kind: Kind, data: bytes) -> None:
        alone = len(self._viewers) == 1
        for viewer in self._viewers:
            viewer.offer(kind, data, must=alone)
        self.settle()

    def settle(self) -> None:
        """Read on, or wait for a lone viewer to take what it has."""
        held = len(self._viewers) == 1 and self._viewers[0].behind > _AHEAD
        for output in self.outputs:
            if held:
                output.pause()
            else:
                output.resume()

    def watch(self, *, history: bool) -> Viewer:
        """A viewer from now on, or from the oldest bytes that are kept."""
        viewer = Viewer(self)
        if history:
            for output in self.outputs:
                if output.ring.size:
                    viewer.offer(output.kind, output.ring.content(), must=True)
        self._viewers.append(viewer)
        self.settle()
        return viewer

    def leave(self, viewer: Viewer) -> None:
        if viewer in self._viewers:
            self._viewers.remove(viewer)
            self.settle()

    def drain(self) -> None:
        for output in self.outputs:
            output.drain()

    def end_viewers(self) -> None:
        """The process has ended: what they have not seen yet is the last they will."""
        for viewer in self._viewers:
            viewer.end()

    def closed(self) -> None:
        if not self.open:
            self._on_closed()

    def close(self) -> None:
        for output in self.outputs:
            output.close()
