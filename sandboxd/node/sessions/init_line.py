"""A session's line to its init: processes are asked for, signalled, and reported when they end."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable

from sandboxd.errors import InvalidRequest, NativeFault, Overload, SandboxEnded
from sandboxd.native import (
    Armed,
    EndOfStream,
    Exited,
    Failed,
    Native,
    Spawned,
    Terminal,
    receive,
    send_signal,
    send_spawn,
)

_FIRST_PID = 2
"""Of the runner that init starts by itself."""


class Runner:
    """A process that is locked down and waits to become a program. Owns its exec socket."""

    def __init__(self, number: int, pid: int, fd: int) -> None:
        self.number, self.pid, self.fd = number, pid, fd
        loop = self._loop = asyncio.get_running_loop()
        self.armed: asyncio.Future[None] = loop.create_future()
        self.terminal: asyncio.Future[int] = loop.create_future()
        self.started: asyncio.Future[Failed | None] = loop.create_future()
        """None once it is the program; else why not."""
        loop.add_reader(fd, self._on_message)

    @property
    def gone(self) -> bool:
        return self.started.done()

    def _on_message(self) -> None:
        try:
            while (message := receive(self.fd)) is not None:
                match message:
                    case Armed():
                        _settle(self.armed, None)
                    case Terminal(fd):
                        if self.terminal.done():
                            os.close(fd)
                        else:
                            self.terminal.set_result(fd)
                    case Failed():
                        self._over(message)
                        return
                    case _:
                        self._over(None)
                        return
        except NativeFault:
            self._over(Failed("receive", 0, 0))

    def _over(self, why: Failed | None) -> None:
        if self.fd >= 0:
            self._loop.remove_reader(self.fd)
        _settle(self.armed, None)
        _settle(self.started, why)
        if not self.terminal.done():
            self.terminal.cancel()

    def close(self) -> None:
        if self.fd >= 0:
            self._loop.remove_reader(self.fd)
            os.close(self.fd)
            self.fd = -1
        if not self.started.done():
            self._over(None)


def _settle(future: "asyncio.Future[None] | asyncio.Future[Failed | None]", value: object) -> None:
    if not future.done():
        future.set_result(value)  # type: ignore[arg-type]


class InitLine:
    def __init__(
        self, native: Native, on_exit: Callable[[Exited], None], *, first: int = 0
    ) -> None:
        """Processes get numbers above `first`."""
        self._native, self._on_exit = native, on_exit
        self._loop = asyncio.get_running_loop()
        self.number = first
        self._born: dict[int, asyncio.Future[Spawned]] = {}
        self._open = True
        self._loop.add_reader(native.control, self._on_message)

    def first(self) -> Runner:
        """The runner that came with the sandbox; it is armed."""
        runner = Runner(0, _FIRST_PID, os.dup(self._native.exec))
        runner.armed.set_result(None)
        return runner

    async def spawn(self, *, root: bool = False) -> Runner:
        """One more runner; wait for `armed` before its order. Raises Overload, SandboxEnded, and
        InvalidRequest for a root that there is none of."""
        number, pid, fd = await self._spawn(files=False, root=root)
        return Runner(number, pid, fd)

    async def spawn_files(self, *, root: bool) -> int:
        """The exec socket of a new file service, which will say Armed; the caller closes it. Raises
        what `spawn` does."""
        return (await self._spawn(files=True, root=root))[2]

    async def _spawn(self, *, files: bool, root: bool) -> tuple[int, int, int]:
        if not self._open:
            raise SandboxEnded("the sandbox has ended")
        self.number += 1
        number = self.number
        ours, theirs = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
        )
        answer = self._born[number] = self._loop.create_future()
        try:
            with theirs:
                theirs.setblocking(True)
                send_spawn(self._native.control, number, theirs.fileno(), files=files, root=root)
            born = await answer
            if root and born.errno == errno.EPERM:
                raise InvalidRequest(
                    "the sandbox has no root: its template gives none", field="user"
                )
            if born.errno:
                raise Overload(
                    f"no process can be started in the sandbox: {os.strerror(born.errno)}",
                    retry_after=1.0,
                )
            return number, born.pid, ours.detach()
        except OSError as error:
            raise Overload(f"the sandbox does not listen: {error}", retry_after=1.0) from error
        finally:
            del self._born[number]
            ours.close()

    def signal(self, number: int, signal: int) -> None:
        """To the process and its group; nothing if it has ended. Raises Overload if nobody listens."""
        if not self._open:
            return
        try:
            send_signal(self._native.control, number, signal)
        except BrokenPipeError:
            return
        except OSError as error:
            raise Overload(f"the sandbox does not listen: {error}", retry_after=1.0) from error

    def _on_message(self) -> None:
        try:
            while (message := receive(self._native.control)) is not None:
                match message:
                    case Exited():
                        self._on_exit(message)
                    case Spawned(number, _, _):
                        if number in self._born and not self._born[number].done():
                            self._born[number].set_result(message)
                    case EndOfStream():
                        self.close()
                        return
        except NativeFault:
            self.close()

    def close(self) -> None:
        """Nothing more is heard or asked; who waits is told that the sandbox has ended."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._native.control)
            for future in self._born.values():
                if not future.done():
                    future.set_exception(SandboxEnded("the sandbox has ended"))
