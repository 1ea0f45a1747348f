"""Unpacks a tar that came out of a sandbox, under a directory and nowhere else.

As in `collected`, nothing in it is trusted: names must be plain relative paths, no symbolic link is
followed below the directory, an existing file is replaced and never written through. Files and
directories are made; links, devices and the like are left out and named.
"""

import shutil
import tarfile
from pathlib import Path
from typing import IO

from sandboxd_client.collected import opened_directory, parts_of, replacing


def unpack_tar(archive: IO[bytes], directory: str | Path) -> list[str]:
    """What was left out, by name. Files keep their permission bits but for setuid and the like.

    Raises ValueError for what is no tar, and OSError if a file cannot be written.
    """
    root = Path(directory)
    root.mkdir(parents=True, exist_ok=True)
    skipped = []
    try:
        with tarfile.open(fileobj=archive, mode="r|") as members:
            for member in members:
                if not _unpack(members, member, root):
                    skipped.append(member.name)
    except tarfile.TarError as error:
        raise ValueError(f"not a tar: {error}") from error
    return skipped


def _unpack(members: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> bool:
    name = member.name.removeprefix("./").rstrip("/")
    if name in ("", "."):
        return True
    try:
        parts = parts_of(name)
    except ValueError:
        return False
    if member.isdir():
        with opened_directory(root, parts):
            return True
    content = members.extractfile(member) if member.isreg() else None
    if content is None:
        return False
    with (
        opened_directory(root, parts[:-1]) as parent,
        replacing(parent, parts[-1], member.mode & 0o777) as file,
    ):
        shutil.copyfileobj(content, file, 1 << 20)
    return True
