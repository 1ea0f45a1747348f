"""Our terminal, or our pipes, joined to a process in a sandbox.

On a terminal everything that is typed goes to the process as it is, Ctrl-C too, and its size follows
ours.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import stat
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import click
from sandboxd_client import AsyncTerminal, ProcessInfo, SandboxdError

_CHUNK = 1 << 16
_CANNOT_START = {
    "not_found": "there is no such program",
    "denied": "may not be executed",
    "bad_cwd": "cannot start, there is no such working directory",
}


def size() -> tuple[int, int]:
    """Rows and columns of our terminal, or of the usual one."""
    found = shutil.get_terminal_size()
    return max(1, found.lines), max(1, found.columns)


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """What is typed is neither shown nor understood by our terminal; put back in the end."""
    if fd < 0 or not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    try:
        # What was typed before is not thrown away.
        tty.setraw(fd, termios.TCSADRAIN)
        yield
    finally:
        with contextlib.suppress(termios.error):  # it has hung up
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


async def joined(terminal: AsyncTerminal, *, typing: bool, stdin: bool) -> ProcessInfo:
    """Until the process has ended. `typing`: it has a terminal. `stdin`: it gets ours."""
    async with terminal:
        tasks = []
        if stdin:
            tasks.append(asyncio.create_task(_feed(terminal, eof=not typing)))
        if typing:
            asyncio.get_running_loop().add_signal_handler(
                signal.SIGWINCH, lambda: tasks.append(asyncio.create_task(_resized(terminal)))
            )
        try:
            while (piece := await terminal.receive()) is not None:
                await asyncio.to_thread(_show, 1 if piece.stream == "stdout" else 2, piece.data)
        finally:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGWINCH)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert terminal.process is not None  # the end of the stream is the process'
        return terminal.process


async def _feed(terminal: AsyncTerminal, *, eof: bool) -> None:
    # Whoever reads the stream meets the same error and tells it.
    with contextlib.suppress(SandboxdError):
        async for data in _typed():
            await terminal.write(data)
        if eof:
            await terminal.close_stdin()


async def _typed() -> AsyncIterator[bytes]:
    """What comes on our stdin, to its end."""
    try:
        fd = sys.stdin.fileno()
        mode = os.fstat(fd).st_mode
    except (AttributeError, OSError, ValueError):
        return
    if stat.S_ISREG(mode):
        while data := await asyncio.to_thread(os.read, fd, _CHUNK):
            yield data
        return
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[bytes] | None = None

    def take() -> None:
        # Read where it is known to be ready: the descriptor blocks, and is others' as well.
        loop.remove_reader(fd)
        try:
            data = os.read(fd, _CHUNK)
        except OSError:
            data = b""
        if waiting is not None and not waiting.done():
            waiting.set_result(data)

    try:
        while True:
            waiting = loop.create_future()
            loop.add_reader(fd, take)
            if not (data := await waiting):
                return
            yield data
    except PermissionError:  # /dev/null and the like, which epoll does not know
        return
    finally:
        loop.remove_reader(fd)


async def _resized(terminal: AsyncTerminal) -> None:
    with contextlib.suppress(SandboxdError):
        await terminal.resize(*size())


def _show(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def complain(process: ProcessInfo) -> None:
    """What the process could not say itself: that it did not start, or was killed for its time."""
    if process.timed_out:
        click.echo("sandboxd: killed: its timeout has passed", err=True)
    elif process.error is not None:
        why = _CANNOT_START.get(process.error, process.error)
        click.echo(f"sandboxd: {process.command[0]}: {why}", err=True)


def exit_code(process: ProcessInfo) -> int:
    """As a shell tells it."""
    if process.exit_code is not None:
        return process.exit_code
    if process.signal is not None:
        number = getattr(signal, process.signal, None)
        return 128 + int(number) if number is not None else 128
    return {"not_found": 127, "denied": 126}.get(process.error or "", 125)
