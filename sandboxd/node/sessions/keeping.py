"""The node's line to the keeper (`sandboxd/keeper.py`): what is put there outlives this process.

Where no keeper runs, nothing is kept, and a sandbox ends with its node.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from sandboxd.keeper import FDS_MAX, NAME_MAX

log = logging.getLogger(__name__)

_encode = msgspec.msgpack.Encoder().encode
_FETCH_TIMEOUT = 5.0
_RETRY = 0.5
_STATE_MAX = 16 << 20


class Kept(msgspec.Struct):
    """One thing that was kept: its state as bytes, and its descriptors, now ours."""

    state: bytes
    fds: list[int]


def fetch(path: Path) -> dict[str, Kept]:
    """All that the keeper has, by name; nothing if there is no keeper. Blocks for a moment."""
    found: dict[str, Kept] = {}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.settimeout(_FETCH_TIMEOUT)
        try:
            line.connect(str(path))
            line.send(b"L")
            while True:
                message, fds, _, _ = socket.recv_fds(line, NAME_MAX + 1, FDS_MAX)
                if message[:1] != b"E":
                    return found
                state = os.pread(fds[0], _STATE_MAX, 0) if fds else b""
                for fd in fds[:1]:
                    os.close(fd)
                found[message[1:].decode()] = Kept(state, fds[1:])
        except OSError as error:
            if found or not isinstance(error, FileNotFoundError | ConnectionRefusedError):
                log.warning("the keeper: %s", error)
            return found


class Keeping:
    def __init__(self, path: Path, put_all: Callable[[], None]) -> None:
        """`put_all` puts everything again, for a keeper that has been started anew."""
        self._path, self._put_all = path, put_all
        self._line: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self) -> bool:
        """Whether there is a keeper; one that comes later is told everything."""
        if self._connect():
            return True
        self._timer = asyncio.get_running_loop().call_later(_RETRY, self._again)
        return False

    def _connect(self) -> bool:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        line.setblocking(False)
        try:
            line.connect(str(self._path))
        except OSError:
            line.close()
            return False
        self._line = line
        asyncio.get_running_loop().add_reader(line.fileno(), self._on_end)
        return True

    def put(self, name: str, state: Any, fds: list[int]) -> None:
        """Keep copies of the descriptors under a name, in place of what was there."""
        if self._line is None:
            return
        memory = os.memfd_create("kept", os.MFD_CLOEXEC)
        os.set_blocking(memory, False)
        try:
            os.write(memory, _encode(state))
            self._send(b"P" + name.encode(), [memory, *fds])
        finally:
            os.close(memory)

    def drop(self, name: str) -> None:
        """Keep it no more, nor what is below it."""
        if self._line is not None:
            self._send(b"D" + name.encode(), [])

    def _send(self, message: bytes, fds: list[int]) -> None:
        assert self._line is not None
        try:
            socket.send_fds(self._line, [message], fds)
        except OSError:  # gone, or behind: it is told everything again
            self._on_end()

    def _on_end(self) -> None:
        if self._line is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._line.fileno())
        self._line.close()
        self._line = None
        if not self._closed:
            self._timer = loop.call_later(_RETRY, self._again)

    def _again(self) -> None:
        if self._connect():
            with contextlib.suppress(OSError):
                self._put_all()
        else:
            self._timer = asyncio.get_running_loop().call_later(_RETRY, self._again)

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._on_end()
