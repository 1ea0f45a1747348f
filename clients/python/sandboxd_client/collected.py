"""Writes collected files under a directory, and nowhere else.

Their names and contents come out of a sandbox by way of the service, so neither is trusted: a name
must be a plain relative path, no symbolic link is followed below the directory, an existing file is
replaced and never written through, and nothing becomes executable. Needs a POSIX system.
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


def save_files(files: Mapping[str, bytes], directory: str | Path) -> list[Path]:
    """Writes `Result.files` under `directory`, which is made if it is missing; gives the paths.

    Raises ValueError for a name that is not a plain relative path, before anything is written, and
    OSError if a file cannot be written, for example where a symbolic link stands in the way.
    """
    root = Path(directory)
    plan = [(parts_of(name), data) for name, data in files.items()]
    root.mkdir(parents=True, exist_ok=True)
    for parts, data in plan:
        with opened_directory(root, parts[:-1]) as parent:
            _replace(parent, parts[-1], data)
    return [root.joinpath(*parts) for parts, _ in plan]


def parts_of(name: str) -> list[str]:
    """Raises ValueError for a name that is not a plain relative path."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or not part.isprintable() or "\\" in part for part in parts):
        raise ValueError(f"{name!r} is not a plain relative path")
    return parts


@contextmanager
def opened_directory(root: Path, parts: list[str]) -> Iterator[int]:
    """An open descriptor of `root/parts…`, made where missing, reached without symbolic links."""
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            with suppress(FileExistsError):  # whatever it is, only a directory opens below
                os.mkdir(part, dir_fd=here)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            below = os.open(part, flags, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


def _replace(parent: int, name: str, data: bytes) -> None:
    with replacing(parent, name, 0o666) as file:
        file.write(data)


@contextmanager
def replacing(parent: int, name: str, mode: int) -> Iterator[IO[bytes]]:
    """A new file that takes the name when the block has ended well."""
    temporary = f".{secrets.token_hex(8)}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, mode, dir_fd=parent), "wb") as file:
        try:
            yield file
            file.flush()
            os.replace(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            os.unlink(temporary, dir_fd=parent)
            raise
