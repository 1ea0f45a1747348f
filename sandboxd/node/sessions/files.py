"""Files of an open sandbox: each method is one call of the protocol, by way of the file service."""

import asyncio
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from sandboxd.descriptors import Writer
from sandboxd.errors import FileProblem, InvalidRequest, Overload, PathExists
from sandboxd.model.session import FileEvent, FileInfo, FileList
from sandboxd.native.file_service import (
    APPEND,
    AT,
    FOLLOW,
    KEEP,
    PARENTS,
    PUT_MAX,
    RECURSIVE,
    SET_MODE,
    XATTR,
    XATTRS,
    Filed,
    FileEntry,
    Op,
)
from sandboxd.node.sessions.entries import draft, event, grouped, info, lines
from sandboxd.node.sessions.file_line import FileLine, Work, problem

_PAGE_BYTES = 4 << 20
"""Of names in one page: whatever the names are, it fits into an answer."""
_PIPE = 1 << 20
"""Bytes that a content is ahead of the process which takes it."""
_NONE: Mapping[str, str] = {}
_WORKS_MAX = 32
"""Long requests of one sandbox at once, each of which is a process in it."""


class OpenFile:
    """A file that is being read. Owns the descriptor, which is of a regular file."""

    def __init__(self, entry: FileInfo, fd: int) -> None:
        self.info, self.fd = entry, fd

    async def read(self, offset: int, size: int) -> bytes:
        return await asyncio.to_thread(os.pread, self.fd, size, offset)

    def close(self) -> None:
        os.close(self.fd)


class Files:
    def __init__(self, line: FileLine) -> None:
        self._line = line
        self._works = 0

    async def stat(self, path: bytes, *, follow: bool, attributes: bool = False) -> FileInfo:
        flags = (FOLLOW if follow else 0) | (XATTRS if attributes else 0)
        return self._one(await self._line.call(Op.STAT, path, flags=flags), path)

    async def make_directory(self, path: bytes, mode: int) -> FileInfo:
        return self._one(await self._line.call(Op.MKDIR, path, mode=mode), path)

    async def move(self, source: bytes, target: bytes, *, overwrite: bool) -> FileInfo:
        flags = 0 if overwrite else KEEP
        return self._one(await self._line.call(Op.MOVE, source, target, flags=flags), target)

    async def change_mode(self, path: bytes, mode: int) -> FileInfo:
        return self._one(await self._line.call(Op.CHMOD, path, mode=mode), path)

    async def remove(self, path: bytes, *, recursive: bool) -> int:
        """How many files and directories went. Raises PathExists for a directory that is not empty,
        unless `recursive`."""
        try:
            return (await self._line.call(Op.UNLINK, path)).count
        except PathExists:
            if not recursive:
                raise
        async with self._working(Op.REMOVE, path) as work:
            return (await work.answer()).count

    async def open(self, path: bytes) -> OpenFile:
        answer = await self._line.call(Op.OPEN, path)
        if answer.fd < 0:
            raise problem(errno.EIO, path)
        # What the descriptor says, not what the sandbox does.
        size = os.fstat(answer.fd).st_size
        return OpenFile(info(answer.entries[0], path, size), answer.fd)

    async def page(
        self, path: bytes, depth: int, limit: int, cursor: str | None, *, attributes: bool = False
    ) -> FileList:
        """A page, in the order of the directories; what changes meanwhile may be missed or seen
        twice."""
        if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 16):
            raise InvalidRequest("not a cursor of this list", field="cursor")
        start = int(cursor or 0)
        entries: list[FileEntry] = []
        count = kept = 0
        async with self._working(
            Op.LIST, path, flags=XATTRS if attributes else 0, mode=depth, offset=start, length=limit
        ) as work:
            while True:
                answer = await work.answer()
                for entry in answer.entries:
                    kept += len(entry.name) + len(entry.target)
                    if entry.change == XATTR:
                        if kept <= _PAGE_BYTES:
                            entries.append(entry)
                        continue
                    if count == limit or kept > _PAGE_BYTES:
                        return _page(path, entries, start + count)
                    entries.append(entry)
                    count += 1
                if not answer.more:
                    return _page(path, entries, answer.count or None)

    def fits(self, path: bytes, size: int) -> bool:
        """Whether a content may go with the request itself."""
        return len(path) + size <= PUT_MAX

    async def write(
        self,
        path: bytes,
        first: bytes,
        rest: AsyncIterator[bytes],
        *,
        mode: int | None,
        append: bool,
        offset: int | None,
        parents: bool,
        attributes: Mapping[str, str] = _NONE,
    ) -> FileInfo:
        """Write `first` and `rest` into the file: see `WriteFile`. If `rest` raises, that is raised,
        and a file that was to be replaced is as it was."""
        async with self._writing(path, mode, append, offset, parents, attributes) as (work, pipe):
            writer = Writer(pipe)
            try:
                whole = not first or await writer.write(first)
                async for piece in rest:
                    whole = whole and await writer.write(piece)
                    if not whole:
                        break
            finally:
                writer.close()
            if whole:
                work.confirm()
            return self._one(await work.answer(), path)

    async def take(
        self,
        path: bytes,
        give: Callable[[int], Awaitable[None]],
        *,
        mode: int | None,
        append: bool,
        offset: int | None,
        parents: bool,
        attributes: Mapping[str, str] = _NONE,
    ) -> FileInfo:
        """The same of a content that somebody else writes: `give` hands over the pipe, and returns when
        all of it is in."""
        async with self._writing(path, mode, append, offset, parents, attributes) as (work, pipe):
            try:
                await give(pipe)
            finally:
                os.close(pipe)
            work.confirm()
            return self._one(await work.answer(), path)

    @asynccontextmanager
    async def _writing(
        self,
        path: bytes,
        mode: int | None,
        append: bool,
        offset: int | None,
        parents: bool,
        attributes: Mapping[str, str],
    ) -> AsyncIterator[tuple[Work, int]]:
        """A process in the sandbox that takes a content, and the pipe for it, which the block closes."""
        flags = (PARENTS if parents else 0) | (SET_MODE if mode is not None else 0)
        flags |= (APPEND if append else 0) | (AT if offset is not None and not append else 0)
        flags |= XATTRS if attributes else 0
        theirs, ours = os.pipe2(os.O_CLOEXEC)
        given = False
        try:
            fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, _PIPE)
            async with self._working(
                Op.WRITE,
                path,
                flags=flags,
                mode=0o644 if mode is None else mode,
                offset=offset or 0,
                xattrs=lines(attributes),
                pipe=theirs,
            ) as work:
                os.close(theirs)
                theirs, given = -1, True
                yield work, ours
        finally:
            if theirs >= 0:
                os.close(theirs)
            if not given:
                os.close(ours)

    async def put(
        self, path: bytes, content: bytes, *, mode: int | None, parents: bool,
        attributes: Mapping[str, str] = _NONE,
    ) -> FileInfo:  # fmt: skip
        """Write a content that is all there, and `fits`."""
        flags = (PARENTS if parents else 0) | (SET_MODE if mode is not None else 0)
        flags |= XATTRS if attributes else 0
        answer = await self._line.call(
            Op.PUT, path, flags=flags, mode=0o644 if mode is None else mode,
            xattrs=lines(attributes), content=content,
        )  # fmt: skip
        return self._one(answer, path)

    async def watch(self, path: bytes, *, recursive: bool) -> AsyncIterator[int | list[FileEvent]]:
        """First how many directories are watched, then changes as they come."""
        async with self._working(Op.WATCH, path, flags=RECURSIVE if recursive else 0) as work:
            yield (await work.answer()).count
            while True:
                answer = await work.answer()
                events = [event(entry, path) for entry in answer.entries if not draft(entry.name)]
                if found := [each for each in events if each is not None]:
                    yield found

    def _working(
        self,
        op: Op,
        path: bytes,
        *,
        flags: int = 0,
        mode: int = 0,
        offset: int = 0,
        length: int = 0,
        xattrs: bytes = b"",
        pipe: int | None = None,
    ) -> "_Working":
        return _Working(self, op, path, flags, mode, offset, length, xattrs, pipe)

    def _one(self, answer: Filed, path: bytes) -> FileInfo:
        found = grouped(answer.entries)
        if len(found) != 1:
            raise FileProblem("the sandbox's answer makes no sense")
        entry, attributes = found[0]
        return info(entry, path, attributes=attributes)


class _Working:
    """A long request, as long as it is worked on."""

    def __init__(
        self,
        files: Files,
        op: Op,
        path: bytes,
        flags: int,
        mode: int,
        offset: int,
        length: int,
        xattrs: bytes,
        pipe: int | None,
    ) -> None:
        self._files, self._op, self._path = files, op, path
        self._numbers = (flags, mode, offset, length)
        self._xattrs, self._pipe = xattrs, pipe
        self._work: Work | None = None

    async def __aenter__(self) -> Work:
        files = self._files
        if files._works >= _WORKS_MAX:
            raise Overload("too many long file requests of this sandbox", retry_after=0.5)
        files._works += 1
        flags, mode, offset, length = self._numbers
        try:
            self._work = await files._line.work(
                self._op, self._path, flags=flags, mode=mode, offset=offset, length=length,
                xattrs=self._xattrs, pipe=self._pipe,
            )  # fmt: skip
        except BaseException:
            files._works -= 1
            raise
        return self._work

    async def __aexit__(self, *_: object) -> None:
        self._files._works -= 1
        if self._work is not None:
            self._work.close()


def _page(path: bytes, entries: list[FileEntry], end: int | None) -> FileList:
    base = path.rstrip(b"/") + b"/"
    found = [
        info(entry, base + entry.name, attributes=attributes)
        for entry, attributes in grouped(entries)
    ]
    found.sort(key=lambda entry: entry.path)
    return FileList(entries=found, next_cursor=None if end is None else str(end))
