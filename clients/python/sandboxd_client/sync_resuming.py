"""Resumed transfers, for threads. Made of `async_resuming` by tools/unasync.py: do not edit.

They go on where an earlier one broke off. What has come is kept beside the target, under a name that says
of which size and time the file is: what is left of another version is never taken for it.
"""

import os
from pathlib import Path as LocalPath
from typing import IO, TYPE_CHECKING

from sandboxd_client.deadline import Deadline
from sandboxd_client.errors import ConnectionFailed, RequestError
from sandboxd_client.local_files import Progress, opened
from sandboxd_client.sandbox_core import Path
from sandboxd_client.sandbox_model import FileInfo

if TYPE_CHECKING:
    from sandboxd_client.sync_files import Files

_ATTEMPTS = 4


def version(size: int, modified: float) -> str:
    """What a part of such a file ends with."""
    return f".{size:x}-{round(modified * 1e6):x}.part"


def upload(
    files: "Files", source: IO[bytes], path: Path, *, mode: int | None, wait: float,
    progress: Progress | None,
) -> FileInfo:  # fmt: skip
    """The file `path` has its old content until all of the new is there. `source` is a regular file."""
    status = os.fstat(source.fileno())
    ending = version(status.st_size, status.st_mtime)
    name = os.fspath(path)
    part = name + ending.encode() if isinstance(name, bytes) else name + ending
    deadline = Deadline(wait)
    for attempt in range(1, _ATTEMPTS + 1):
        source.seek(_size(files, part, deadline))
        try:
            files._put(part, source, {"offset": source.tell()}, deadline.check(), progress)
            break
        except ConnectionFailed:
            if attempt == _ATTEMPTS:
                raise
    if mode is not None:
        files.chmod(part, mode, wait=deadline.check())
    return files.move(part, path, wait=deadline.check())


def _size(files: "Files", part: Path, deadline: Deadline) -> int:
    try:
        return (files.stat(part, wait=deadline.check())).size
    except RequestError as error:
        if error.code != "path_not_found":
            raise
        return 0


def download(
    files: "Files", path: Path, target: LocalPath, *, wait: float, progress: Progress | None
) -> int:
    """How many bytes the file has. Raises ConnectionFailed if it changes meanwhile."""
    deadline = Deadline(wait)
    info = files.stat(path, wait=deadline.check())
    part = target.with_name(target.name + version(info.size, info.modified_at))
    with opened(part, "ab") as file:
        if file.tell() < info.size:
            files._save(path, file, deadline.check(), progress, file.tell())
        count = file.tell()
    now = files.stat(path, wait=deadline.check())
    if (count, now.size, now.modified_at) != (info.size, info.size, info.modified_at):
        part.unlink()
        raise ConnectionFailed("the file has changed while it came")
    part.replace(target)
    return count
