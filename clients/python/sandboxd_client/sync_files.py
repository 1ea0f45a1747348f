"""Files of a sandbox, for threads. Made of `async_files` by tools/unasync.py: do not edit."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path as LocalPath
from typing import IO, TYPE_CHECKING, Any, TypeVar

from sandboxd_client import sync_resuming
from sandboxd_client.core import Flow, Read
from sandboxd_client.deadline import SHORT, Deadline
from sandboxd_client.errors import ConnectionFailed, RequestError
from sandboxd_client.local_files import Progress, SyncUpload, opened, write
from sandboxd_client.model import parse
from sandboxd_client.sandbox_core import Path, Query, at, changes_of
from sandboxd_client.sandbox_model import FileEvent, FileInfo, SignedUrl, file_of
from sandboxd_client.sync_client import _Exchange
from sandboxd_client.sync_documents import documents_of

if TYPE_CHECKING:
    from sandboxd_client.sync_sandbox import Sandbox

T = TypeVar("T")

TRANSFER = 3600.0
"""Seconds that a transfer may take, where the call does not say."""
_RESUMES = 3


class Files:
    """`sandbox.files`. Paths are absolute, or relative to /work; `wait` is in seconds."""

    def __init__(self, sandbox: "Sandbox") -> None:
        self._sandbox = sandbox
        self._id, self._core = sandbox.id, sandbox._core

    def read(self, path: Path, *, wait: float = TRANSFER) -> bytes:
        """The whole file. Raises RequestError with `code` `path_not_found`, `path_denied` and such."""
        return b"".join([piece for piece in self.stream(path, wait=wait)])

    def read_text(self, path: Path, *, wait: float = TRANSFER) -> str:
        """What is not UTF-8 shows as U+FFFD."""
        return (self.read(path, wait=wait)).decode(errors="replace")

    def stream(
        self, path: Path, *, offset: int = 0, wait: float = TRANSFER,
        progress: Progress | None = None,
    ) -> Iterator[bytes]:  # fmt: skip
        """The file from `offset` on, in pieces. A connection that breaks is taken up again, as long as
        the file is the same; if it is another by then, ConnectionFailed says so."""
        deadline, failures = Deadline(wait), 0
        tag: str | None = None
        while True:
            exchange = _Exchange(self._sandbox._client._transport)
            try:
                answer = exchange.drive(self._core.open_file(self._id, path, offset, tag, deadline))
                if tag is not None and answer.headers.get("etag") != tag:
                    raise ConnectionFailed("the connection broke, and the file has changed since")
                tag = answer.headers.get("etag")
                size = _announced(answer.headers, offset)
                while (piece := exchange.drive(_next(deadline))) is not None:
                    offset += len(piece)
                    if progress is not None:
                        progress(offset, size)
                    yield piece
                if size is None or offset >= size:
                    return
                raise ConnectionFailed("the file ended early")
            except ConnectionFailed as error:
                failures += 1
                if failures > _RESUMES or tag is None or "changed" in error.detail:
                    raise
            finally:
                exchange.close()

    def download(
        self, path: Path, target: str | LocalPath | IO[bytes], *, resume: bool = False,
        wait: float = TRANSFER, progress: Progress | None = None,
    ) -> int:  # fmt: skip
        """Into a file of this machine; how many bytes. With `resume` it goes on where an earlier one of
        the same file broke off, and the target is there once it is whole."""
        if isinstance(target, str | LocalPath):
            if resume:
                return sync_resuming.download(
                    self, path, LocalPath(target), wait=wait, progress=progress
                )
            with opened(target, "wb") as file:
                return self._save(path, file, wait, progress)
        return self._save(path, target, wait, progress)

    def _save(
        self, path: Path, file: IO[bytes], wait: float, progress: Progress | None, offset: int = 0
    ) -> int:
        count = 0
        made: Any = self.stream(path, offset=offset, wait=wait, progress=progress)
        with closing(made) as pieces:
            for piece in pieces:
                write(file, piece)
                count += len(piece)
        return count

    def write(
        self, path: Path, data: str | bytes | IO[bytes], *, mode: int | None = None,
        wait: float = TRANSFER, progress: Progress | None = None,
    ) -> FileInfo:  # fmt: skip
        """The file has its old content or all of the new, never a part. Directories that are missing
        are made."""
        return self._put(path, data, {"mode": _octal(mode)}, wait, progress)

    def append(
        self, path: Path, data: str | bytes | IO[bytes], *, wait: float = TRANSFER
    ) -> FileInfo:
        """Not atomic: after an error, `stat` says how much is there."""
        return self._put(path, data, {"append": True}, wait, None)

    def upload(
        self, source: str | LocalPath, path: Path, *, mode: int | None = None, resume: bool = False,
        wait: float = TRANSFER, progress: Progress | None = None,
    ) -> FileInfo:  # fmt: skip
        """A file of this machine. With `resume` it goes on where an earlier one of the same file broke
        off: what has come is kept beside `path`."""
        with opened(source, "rb") as file:
            if resume:
                return sync_resuming.upload(
                    self, file, path, mode=mode, wait=wait, progress=progress
                )
            return self.write(path, file, mode=mode, wait=wait, progress=progress)

    def write_many(self, files: Mapping[str, str | bytes], *, wait: float = SHORT) -> int:
        """Many small files in one request, each atomic by itself; how many."""
        return self._do(self._core.write_many(self._id, files, Deadline(wait)))

    def list(
        self, path: Path = ".", *, depth: int = 1, wait: float = TRANSFER
    ) -> Iterator[FileInfo]:
        """Everything below a directory, `depth` levels deep, page by page."""
        deadline, cursor = Deadline(wait), None
        while True:
            page, cursor = self._do(self._core.files(self._id, path, depth, cursor, deadline))
            yield from page
            if cursor is None:
                return

    def stat(self, path: Path, *, follow: bool = True, wait: float = SHORT) -> FileInfo:
        return self._do(self._core.stat(self._id, path, follow, Deadline(wait)))

    def exists(self, path: Path, *, wait: float = SHORT) -> bool:
        try:
            self.stat(path, wait=wait)
        except RequestError as error:
            if error.code != "path_not_found":
                raise
            return False
        return True

    def make_dir(self, path: Path, *, mode: int = 0o755, wait: float = SHORT) -> FileInfo:
        """With its parents; one that is there is no error."""
        return self._change("directory", {**at(path), "mode": mode}, wait)

    def move(
        self, source: Path, target: Path, *, overwrite: bool = True, wait: float = SHORT
    ) -> FileInfo:
        names = {
            name.replace("path", side): value
            for side, path in (("source", source), ("target", target))
            for name, value in at(path).items()
        }
        return self._change("move", {**names, "overwrite": overwrite}, wait)

    def chmod(self, path: Path, mode: int, *, wait: float = SHORT) -> FileInfo:
        return self._change("mode", {**at(path), "mode": mode}, wait)

    def remove(self, path: Path, *, recursive: bool = False, wait: float = TRANSFER) -> int:
        """How many files and directories."""
        return self._do(self._core.remove(self._id, path, recursive, Deadline(wait)))

    def watch(
        self, path: Path = ".", *, recursive: bool = True, wait: float = TRANSFER
    ) -> Iterator[FileEvent]:
        """Changes below a directory, from the first step of the iteration on, for `wait` seconds:
        then Timeout is raised."""
        deadline = Deadline(wait)
        flow = self._core.watch(self._id, path, recursive, deadline)
        with closing(documents_of(self._sandbox._client, flow, deadline)) as documents:
            for document in documents:
                yield from changes_of(document)

    def read_tar(
        self, path: Path, target: IO[bytes], *, wait: float = TRANSFER,
        progress: Progress | None = None,
    ) -> int:  # fmt: skip
        """A directory, as tar, into a file of this machine; how many bytes. Nobody vouches for the
        names in it: unpack it with tarfile's `data` filter."""
        deadline, count = Deadline(wait), 0
        exchange = _Exchange(self._sandbox._client._transport)
        try:
            flow = self._core.open_file(self._id, path, 0, None, deadline, "archive")
            exchange.drive(flow)
            while (piece := exchange.drive(_next(deadline))) is not None:
                write(target, piece)
                count += len(piece)
                if progress is not None:
                    progress(count, None)
        finally:
            exchange.close()
        return count

    def write_tar(
        self, path: Path, source: bytes | IO[bytes], *, wait: float = TRANSFER,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        """Unpacks a tar into a directory of the sandbox."""
        upload = SyncUpload(source, progress)
        self._do(self._core.write(self._id, path, {}, upload, Deadline(wait), "archive"))

    def sign(
        self, path: str, *, method: str = "GET", expires_in: float = 3600.0, wait: float = SHORT
    ) -> SignedUrl:
        """A URL with which whoever has it may read (`GET`) or write (`PUT`) this one file."""
        return self._do(self._core.sign(self._id, path, method, expires_in, Deadline(wait)))

    def _put(
        self, path: Path, data: str | bytes | IO[bytes], query: Query, wait: float,
        progress: Progress | None,
    ) -> FileInfo:  # fmt: skip
        content = data.encode() if isinstance(data, str) else data
        upload = SyncUpload(content, progress)
        answer = self._do(self._core.write(self._id, path, query, upload, Deadline(wait)))
        return parse(answer.body, file_of)

    def _change(self, verb: str, body: Mapping[str, Any], wait: float) -> FileInfo:
        return self._do(self._core.change_file(self._id, verb, body, Deadline(wait)))

    def _do(self, flow: Flow[T]) -> T:
        return self._sandbox._client._do(flow)


def _next(deadline: Deadline) -> Flow[bytes | None]:
    piece: bytes | None = yield Read(deadline)
    return piece


def _octal(mode: int | None) -> str | None:
    return None if mode is None else f"{mode:o}"


def _announced(headers: Mapping[str, str], offset: int) -> int | None:
    """The size of the whole file."""
    length = headers.get("content-length", "")
    return offset + int(length) if length.isdecimal() else None
