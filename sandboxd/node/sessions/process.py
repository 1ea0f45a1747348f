"""One command in an open sandbox, from its start until nobody holds its streams any more."""

import asyncio
import errno
import fcntl
import os
import signal
import struct
import termios
import time
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from sandboxd.descriptors import Writer
from sandboxd.errors import Conflict, Overload
from sandboxd.model.moment import rfc3339
from sandboxd.model.session import Process, ProcessRequest, ProcessResult, ProcessState, PtySize
from sandboxd.native import ExecOrder, Exited, Failed, send_exec
from sandboxd.node.sessions.init_line import Runner
from sandboxd.node.sessions.kept import KeptProcess
from sandboxd.node.sessions.streams import Streams
from sandboxd.node.stdio import FixedInput

_NOT_FOUND = (errno.ENOENT, errno.ENOTDIR)


class LiveProcess:
    """Started once with `start`; its owner tells it of its end with `on_exit`."""

    def __init__(
        self,
        name: str,
        request: ProcessRequest,
        kill: Callable[[], None],
        on_changed: Callable[[], None],
        *,
        lost: bool = False,
    ) -> None:
        """`kill` sends SIGKILL to its group; `on_changed` is called when its output or input has ended:
        whoever keeps copies of the descriptors has to let go of them. `lost`: a node before this one
        has read some of it."""
        self.id, self._request, self._kill = name, request, kill
        self._loop = asyncio.get_running_loop()
        self._on_changed = on_changed
        self.streams = Streams(request.keep_output, on_changed, lost=lost)
        self.runner: Runner | None = None
        self.number = self.pid = 0
        """By which init knows it, and by which the sandbox does."""
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._stdin: Writer | None = None
        self._terminal = -1
        self._timer: asyncio.TimerHandle | None = None
        self._timed_out = False
        self._started_at = time.time()
        self._started = time.monotonic()
        self._exited: Exited | None = None
        self._exited_at = 0.0
        self._failed: Failed | None = None

    async def start(
        self, runner: Runner, order: ExecOrder, stdin: bytes | None, first: bytes = b""
    ) -> None:
        """Give the armed runner its order, and wait until it is the program or cannot be. `stdin` is
        all of it, where it is known, `first` what a pipe takes of one that stays open. Raises Overload
        if the runner is gone."""
        self.runner, self.number, self.pid = runner, runner.number, runner.pid
        self._started_at, self._started = time.time(), time.monotonic()
        try:
            if self._request.pty is not None:
                await self._start_terminal(runner, order)
            else:
                self._start_pipes(runner, order, stdin, first)
        except (OSError, ValueError, asyncio.CancelledError) as error:
            self.close()
            if isinstance(error, OSError):
                raise Overload(
                    "the sandbox ended the process that was to start", retry_after=0.1
                ) from error
            raise
        if self._request.timeout is not None:
            self._timer = self._loop.call_later(self._request.timeout, self._on_timeout)
        self._failed = await asyncio.shield(runner.started)
        runner.close()

    def _start_pipes(
        self, runner: Runner, order: ExecOrder, stdin: bytes | None, first: bytes
    ) -> None:
        given: int | None = None
        ours: list[int] = []
        theirs: list[int] = []
        fixed = FixedInput(stdin or b"")
        try:
            if self._request.stdin and stdin is None:
                given, end = os.pipe2(os.O_CLOEXEC)
                theirs.append(given)
                ours.append(end)
                if first:
                    os.set_blocking(end, False)
                    os.write(end, first)
            else:
                given = fixed.child_fd
            for _ in range(2):
                end, child = os.pipe2(os.O_CLOEXEC)
                ours.append(end)
                theirs.append(child)
            send_exec(runner.fd, order, given, theirs[-2], theirs[-1])
        except (OSError, ValueError):
            for fd in ours:
                os.close(fd)
            raise
        finally:
            fixed.close()
            for fd in theirs:
                os.close(fd)
        if len(ours) == 3:
            self._stdin = Writer(ours.pop(0))
        self.streams.stdout.start(ours[0])
        self.streams.stderr.start(ours[1])

    async def _start_terminal(self, runner: Runner, order: ExecOrder) -> None:
        send_exec(runner.fd, order, None, -1, -1)
        either: list[asyncio.Future[Any]] = [runner.terminal, runner.started]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if runner.terminal.cancelled() or not runner.terminal.done():
            return
        master = runner.terminal.result()
        self._use_terminal(master)

    def _use_terminal(self, master: int) -> None:
        """Reading and writing wait apart, and a loop knows a descriptor once."""
        self._terminal = os.dup(master)
        self._stdin = Writer(os.dup(master))
        self.streams.stdout.start(master)

    def kept(self) -> tuple[KeptProcess, list[int]]:
        """What another node needs to go on with it: descriptors of stdout, stderr and stdin, those
        that are open."""
        stdin = self._stdin.fd if self._stdin is not None and self._terminal < 0 else -1
        fds = (self.streams.stdout.fd, self.streams.stderr.fd, stdin)
        kept = KeptProcess(
            id=self.id,
            number=self.number,
            pid=self.pid,
            request=replace(self._request, env={}),
            started_at=self._started_at,
            open=(fds[0] >= 0, fds[1] >= 0, fds[2] >= 0),
            exited=self._exited,
            exited_at=self._exited_at,
            timed_out=self._timed_out,
            failed=self._failed,
        )
        return kept, [fd for fd in fds if fd >= 0]

    def restore(self, kept: KeptProcess, fds: list[int]) -> None:
        """Go on where the node before this one was; the descriptors are ours."""
        self.number, self.pid, self._started_at = kept.number, kept.pid, kept.started_at
        self._started = time.monotonic() - (time.time() - kept.started_at)
        self._exited, self._exited_at = kept.exited, kept.exited_at
        self._timed_out, self._failed = kept.timed_out, kept.failed
        stdout, stderr, stdin = (fds.pop(0) if there else -1 for there in kept.open)
        if kept.request.pty is not None and stdout >= 0:
            self._use_terminal(stdout)
        else:
            for output, fd in ((self.streams.stdout, stdout), (self.streams.stderr, stderr)):
                if fd >= 0:
                    output.start(fd)
            if stdin >= 0:
                self._stdin = Writer(stdin)
        if kept.exited is not None:
            self._finish()
        elif kept.request.timeout is not None:
            left = kept.started_at + kept.request.timeout - time.time()
            self._timer = self._loop.call_later(max(0.0, left), self._on_timeout)

    def _on_timeout(self) -> None:
        self._timed_out = True
        self._kill()

    def on_exit(self, exited: Exited) -> None:
        """It has been reaped. What it wrote is taken in; whoever it left behind may write on."""
        self._exited, self._exited_at = exited, time.time()
        if self._timer is not None:
            self._timer.cancel()
        if self._stdin is not None and not self._request.pty:
            self._stdin.close()
        self.streams.drain()
        self._finish()

    def lost(self) -> None:
        """The sandbox is gone with it."""
        if self._exited is None:
            self.on_exit(Exited(signal.SIGKILL, True, time.monotonic(), 0))
        self.close()

    def _finish(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        self.streams.end_viewers()

    @property
    def request(self) -> ProcessRequest:
        """Without its environment, if a node before this one has started it."""
        return self._request

    @property
    def running(self) -> bool:
        return self._exited is None

    async def write(self, data: bytes) -> bool:
        """To stdin; False if nobody reads there (any more)."""
        return self._stdin is not None and await self._stdin.write(data)

    def close_stdin(self) -> None:
        if self._stdin is not None and self._request.pty is None:
            self._stdin.close()
            self._on_changed()

    def resize(self, size: PtySize) -> None:
        """Raises Conflict if it has no terminal."""
        if self._terminal < 0:
            raise Conflict("the process has no terminal")
        fcntl.ioctl(
            self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.cols, 0, 0)
        )

    def close(self) -> None:
        """Let go of everything; what was read is kept."""
        if self._timer is not None:
            self._timer.cancel()
        if self.runner is not None:
            self.runner.close()
        if self._stdin is not None:
            self._stdin.close()
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1
        self.streams.close()

    def record(self) -> Process:
        exited, request = self._exited, self._request
        status = exited.status if exited is not None else None
        end = self._exited_at if exited is not None else time.time()
        killed = status is not None and os.WIFSIGNALED(status)
        return Process(
            id=self.id,
            pid=self.pid or None,
            command=request.command,
            cwd=request.cwd,
            tag=request.tag,
            pty=request.pty is not None,
            state=ProcessState.RUNNING if exited is None else ProcessState.EXITED,
            started_at=rfc3339(self._started_at),
            exited_at=rfc3339(end) if exited is not None else None,
            exit_code=None if status is None or killed else self._exit_code(status),
            signal=_name(os.WTERMSIG(status)) if killed and status is not None else None,
            timed_out=self._timed_out,
            error=_error(self._failed) if self._failed is not None else None,
            cpu_time=exited.cpu_time if exited is not None else 0.0,
            peak_memory=exited.max_rss if exited is not None else 0,
            wall_time=max(0.0, exited.at - self._started)
            if exited is not None
            else time.monotonic() - self._started,
            stdout_bytes=self.streams.stdout.ring.written,
            stderr_bytes=self.streams.stderr.ring.written,
        )

    def _exit_code(self, status: int) -> int:
        """As a shell says it where the command could not be started."""
        if self._failed is None:
            return os.WEXITSTATUS(status)
        return 127 if _error(self._failed) == "not_found" else 126

    def result(self, *, output: bool = True) -> ProcessResult:
        stdout, stderr = (stream.ring for stream in self.streams.outputs)
        return ProcessResult(
            process=self.record(),
            stdout=stdout.content() if output else b"",
            stderr=stderr.content() if output else b"",
            stdout_truncated=stdout.dropped > 0,
            stderr_truncated=stderr.dropped > 0,
        )


def _error(failed: Failed) -> str:
    if failed.stage == "exec":
        if failed.errno in _NOT_FOUND:
            return "not_found"
        if failed.errno == errno.EACCES:
            return "denied"
        return errno.errorcode.get(failed.errno, "exec").lower()
    return "bad_cwd" if failed.stage == "cwd" else failed.stage


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
