"""The line to a session's file service: requests go in, answers come out, in any order.

The service is a process of the sandbox, which the sandbox may end: the next request starts another.
What takes long has a socket of its own (`Work`).
"""

import asyncio
import errno
import os
import socket
from collections.abc import Sequence

from sandboxd.descriptors import readable
from sandboxd.errors import (
    FileProblem,
    NativeFault,
    NoSpace,
    PathDenied,
    PathExists,
    PathNotFound,
    RequestError,
    WrongFileType,
)
from sandboxd.native import Armed, receive
from sandboxd.native.file_service import Filed, Op, receive_answer, send_request
from sandboxd.node.sessions.init_line import InitLine

_SHOWN = 200
"""Characters of a path in an error."""
_KINDS: dict[int, type[RequestError]] = {
    errno.ENOENT: PathNotFound,
    errno.EEXIST: PathExists,
    errno.ENOTEMPTY: PathExists,
    errno.EACCES: PathDenied,
    errno.EPERM: PathDenied,
    errno.EROFS: PathDenied,
    errno.EISDIR: WrongFileType,
    errno.ENOTDIR: WrongFileType,
    errno.ENXIO: WrongFileType,
    errno.EOPNOTSUPP: WrongFileType,
    errno.ENOSPC: NoSpace,
    errno.EDQUOT: NoSpace,
}


def problem(number: int, *paths: bytes) -> RequestError:
    """What the sandbox's file system answered about `paths`, as an error of ours."""
    named = ", ".join(map(_shown, paths))
    return _KINDS.get(number, FileProblem)(f"{named}: {os.strerror(number)}")


def _shown(path: bytes) -> str:
    """Its end, where it is long: that is where paths differ. Nothing in it speaks to a terminal."""
    text = path.decode(errors="backslashreplace")
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= _SHOWN else "…" + text[-_SHOWN:]


class Work:
    """One request with a process of its own in the sandbox; ends with `close`."""

    def __init__(self, line: socket.socket, paths: Sequence[bytes]) -> None:
        self._line, self._paths = line, paths

    async def answer(self) -> Filed:
        """The next answer. Raises FileProblem if the process was ended, or an error of the file
        system's."""
        while True:
            try:
                answer = receive_answer(self._line.fileno())
            except EOFError:
                raise _interrupted() from None
            if answer is not None:
                break
            await readable(self._line.fileno())
        if answer.errno:
            raise problem(answer.errno, *self._paths)
        return answer

    def confirm(self) -> None:
        """All of the content has been sent."""
        try:
            self._line.send(b"\1")
        except OSError:  # gone: its answer, or the end, says why
            return

    def close(self) -> None:
        self._line.close()


class FileLine:
    def __init__(self, init: InitLine, *, root: bool = False) -> None:
        """`root`: with its rights."""
        self._init, self._root = init, root
        self._loop = asyncio.get_running_loop()
        self._fd = -1
        self._starting = asyncio.Lock()
        self._number = 0
        self._pending: dict[int, asyncio.Future[Filed]] = {}

    async def call(
        self,
        op: Op,
        *paths: bytes,
        flags: int = 0,
        mode: int = 0,
        xattrs: bytes = b"",
        content: bytes | None = None,
    ) -> Filed:
        """One short request and its answer; the receiver owns the answer's descriptor. `xattrs` are
        lines of attributes. Raises an error of the file system's, or FileProblem if the service was
        ended meanwhile."""
        await self._start()
        self._number = number = (self._number + 1) & 0xFFFF_FFFF
        answer = self._pending[number] = self._loop.create_future()
        try:
            await self._send(
                number, op, *paths, flags=flags, mode=mode, xattrs=xattrs, content=content
            )
            filed: Filed = await asyncio.shield(answer)
        except asyncio.CancelledError:
            answer.add_done_callback(_discard)
            raise
        finally:
            self._pending.pop(number, None)
        if filed.errno:
            raise problem(filed.errno, *paths)
        return filed

    async def work(
        self,
        op: Op,
        *paths: bytes,
        flags: int = 0,
        mode: int = 0,
        offset: int = 0,
        length: int = 0,
        xattrs: bytes = b"",
        pipe: int | None = None,
    ) -> Work:
        """Start a long request. `pipe` is where its content comes from; it stays open here."""
        await self._start()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            with theirs:
                fds = [theirs.fileno(), *([] if pipe is None else [pipe])]
                await self._send(
                    0, op, *paths, flags=flags, mode=mode, offset=offset, length=length,
                    xattrs=xattrs, fds=fds,
                )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        return Work(ours, paths)

    async def _send(
        self,
        number: int,
        op: Op,
        *paths: bytes,
        flags: int = 0,
        mode: int = 0,
        offset: int = 0,
        length: int = 0,
        xattrs: bytes = b"",
        content: bytes | None = None,
        fds: Sequence[int] = (),
    ) -> None:
        strings = (*paths, xattrs) if xattrs else paths
        for _ in range(2):
            try:
                send_request(
                    self._fd, number, op, *strings, flags=flags, mode=mode, offset=offset,
                    length=length, content=content, fds=fds,
                )  # fmt: skip
            except BlockingIOError:
                raise FileProblem("the sandbox's files are busy") from None
            except OSError:
                self._lose()  # ended while nobody asked
                await self._start()
            else:
                return
        raise _interrupted()

    async def _start(self) -> None:
        async with self._starting:
            if self._fd >= 0:
                return
            fd = await self._init.spawn_files(root=self._root)
            try:
                while (message := receive(fd)) is None:
                    await readable(fd)
                if not isinstance(message, Armed):
                    raise FileProblem(f"the file service did not start: {message}")
            except BaseException:
                os.close(fd)
                raise
            self._fd = fd
            self._loop.add_reader(fd, self._on_answer)

    def _on_answer(self) -> None:
        try:
            while (answer := receive_answer(self._fd)) is not None:
                waiting = self._pending.get(answer.id)
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
                elif answer.fd >= 0:
                    os.close(answer.fd)
        except (EOFError, NativeFault):
            self._lose()

    def _lose(self) -> None:
        if self._fd < 0:
            return
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
        for waiting in self._pending.values():
            if not waiting.done():
                waiting.set_exception(_interrupted())

    def close(self) -> None:
        self._lose()


def _discard(answer: "asyncio.Future[Filed]") -> None:
    """Nobody waits for it any more."""
    if not answer.cancelled() and answer.exception() is None and answer.result().fd >= 0:
        os.close(answer.result().fd)


def _interrupted() -> FileProblem:
    return FileProblem("the sandbox ended the process that served its files")
