"""Calls about files."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from sandboxd.errors import InvalidRequest
from sandboxd.model import agent
from sandboxd.model.agent import (
    MAX_DATA,
    Changes,
    FrameError,
    Handover,
    Kind,
    Removed,
    Transferred,
    Watching,
    Written,
    head,
    message,
)
from sandboxd.model.session import FileInfo, FileList
from sandboxd.node.sessions.link import Link
from sandboxd.node.sessions.session import Session


def _checked(*paths: bytes) -> None:
    if any(b"\0" in path for path in paths):
        raise InvalidRequest("a path holds a NUL", field="path")


async def stat(session: Session, call: agent.Stat, link: Link) -> FileInfo:
    _checked(call.path)
    return await session.files(root=call.root).stat(
        call.path, follow=call.follow, attributes=call.attributes
    )


async def page(session: Session, call: agent.ListFiles, link: Link) -> FileList:
    _checked(call.path)
    return await session.files(root=call.root).page(
        call.path, call.depth, call.limit, call.cursor, attributes=call.attributes
    )


async def make_directory(session: Session, call: agent.MakeDirectory, link: Link) -> FileInfo:
    _checked(call.path)
    return await session.files(root=call.root).make_directory(call.path, call.mode)


async def move(session: Session, call: agent.Move, link: Link) -> FileInfo:
    _checked(call.source, call.target)
    return await session.files(root=call.root).move(
        call.source, call.target, overwrite=call.overwrite
    )


async def change_mode(session: Session, call: agent.ChangeMode, link: Link) -> FileInfo:
    _checked(call.path)
    return await session.files(root=call.root).change_mode(call.path, call.mode)


async def remove(session: Session, call: agent.Remove, link: Link) -> Removed:
    _checked(call.path)
    return Removed(await session.files(root=call.root).remove(call.path, recursive=call.recursive))


async def read(session: Session, call: agent.ReadFile, link: Link) -> Transferred:
    _checked(call.path)
    file = await session.files(root=call.root).open(call.path)
    try:
        if call.handover:
            await link.hand_over(message(Kind.EVENT, file.info), file.fd)
            return Transferred(0)
        await link.send(message(Kind.EVENT, file.info))
        left = max(0, file.info.size - call.offset)
        if call.length is not None:
            left = min(left, call.length)
        if call.inline is not None and left > call.inline:
            return Transferred(0)
        offset = call.offset
        while left > 0:
            data = await file.read(offset, min(MAX_DATA, left))
            if not data:
                break  # it has become shorter
            await link.send_all(head(Kind.DATA, len(data)), data)
            offset += len(data)
            left -= len(data)
        return Transferred(offset - call.offset)
    finally:
        file.close()


async def write(session: Session, call: agent.WriteFile, link: Link) -> FileInfo:
    """A small content goes with the request; else what has come is kept until a process in the
    sandbox takes it."""
    _checked(call.path)
    content = link.content()
    if call.handover:

        async def give(pipe: int) -> None:
            await link.hand_over(message(Kind.EVENT, Handover()), pipe)
            async for _ in content:
                raise FrameError("DATA beside a pipe")

        return await session.files(root=call.root).take(
            call.path, give, mode=call.mode, append=call.append, offset=call.offset,
            parents=call.parents, attributes=call.attributes,
        )  # fmt: skip
    first = b""
    small = not call.append and call.offset is None
    async for piece in content:
        first += piece
        if not (small and session.files(root=call.root).fits(call.path, len(first))):
            break
    else:
        if small:
            return await session.files(root=call.root).put(
                call.path, first, mode=call.mode, parents=call.parents, attributes=call.attributes
            )
    return await session.files(root=call.root).write(
        call.path,
        first,
        content,
        mode=call.mode,
        append=call.append,
        offset=call.offset,
        parents=call.parents,
        attributes=call.attributes,
    )


async def write_many(session: Session, call: agent.WriteFiles, link: Link) -> Written:
    _checked(*(file.path for file in call.files))
    content = _Pieces(link.content())
    done = 0
    for file in call.files:
        if session.files(root=call.root).fits(file.path, file.size):
            data = b"".join([piece async for piece in content.take(file.size)])
            await session.files(root=call.root).put(file.path, data, mode=file.mode, parents=True)
        else:
            await session.files(root=call.root).write(
                file.path, b"", content.take(file.size), mode=file.mode, append=False,
                offset=None, parents=True,
            )  # fmt: skip
        done += file.size
    await content.over()
    return Written(len(call.files), done)


class _Pieces:
    """A content that is taken apart into files."""

    def __init__(self, content: AsyncIterator[bytes]) -> None:
        self._content = content
        self._rest = b""

    async def take(self, size: int) -> AsyncIterator[bytes]:
        """Exactly `size` bytes. Raises InvalidRequest if there are fewer."""
        while size > 0:
            piece, self._rest = self._rest, b""
            if not piece:
                piece = await anext(self._content, b"")
                if not piece:
                    raise InvalidRequest("the content is shorter than the files", field="files")
            if len(piece) > size:
                piece, self._rest = piece[:size], piece[size:]
            size -= len(piece)
            yield piece

    async def over(self) -> None:
        if self._rest or await anext(self._content, b""):
            raise InvalidRequest("the content is longer than the files", field="files")


async def watch(session: Session, call: agent.Watch, link: Link) -> None:
    _checked(call.path)
    async for news in session.files(root=call.root).watch(call.path, recursive=call.recursive):
        if isinstance(news, int):
            await link.send(message(Kind.EVENT, Watching(news)))
        else:
            await link.send(message(Kind.EVENT, Changes(news)))


FILE_CALLS: dict[type, Callable[[Session, Any, Link], Awaitable[object]]] = {
    agent.Stat: stat,
    agent.ListFiles: page,
    agent.MakeDirectory: make_directory,
    agent.Move: move,
    agent.ChangeMode: change_mode,
    agent.Remove: remove,
    agent.ReadFile: read,
    agent.WriteFile: write,
    agent.WriteFiles: write_many,
    agent.Watch: watch,
}
