"""What the file service says of a file, as clients see it. Pure; nothing of it is trusted."""

import re
import stat
from collections.abc import Iterable, Mapping

from msgspec import UNSET

from sandboxd.errors import InvalidRequest
from sandboxd.model.session import FileChange, FileEvent, FileInfo, FileType, shown
from sandboxd.native.file_service import XATTR, FileEntry

_TYPES = {
    stat.S_IFREG: FileType.FILE,
    stat.S_IFDIR: FileType.DIRECTORY,
    stat.S_IFLNK: FileType.SYMLINK,
    stat.S_IFIFO: FileType.FIFO,
    stat.S_IFSOCK: FileType.SOCKET,
}
_CHANGES = dict(enumerate(FileChange, 1))
_MODE = 0o7777
_DRAFT = re.compile(rb"(?:^|/)\.sbx-[0-9a-f]{16}\Z")
"""As `native/upload.c` names them."""


_USER = b"user."
_XATTRS_MAX = 8 << 10
"""Bytes of a request's attributes, so that they go into its message with a small content."""


def grouped(entries: Iterable[FileEntry]) -> list[tuple[FileEntry, dict[str, str]]]:
    """Files, each with its attributes, which come after it."""
    found: list[tuple[FileEntry, dict[str, str]]] = []
    for entry in entries:
        if entry.change != XATTR:
            found.append((entry, {}))
        elif found:
            name = entry.name.removeprefix(_USER).decode(errors="replace")
            found[-1][1][name] = entry.target.decode(errors="replace")
    return found


def lines(attributes: Mapping[str, str]) -> bytes:
    """Attributes as the file service takes them. Raises InvalidRequest for a name that is none."""
    if any("=" in name or not name.isprintable() for name in attributes):
        raise InvalidRequest("not the name of an attribute", field="attributes")
    told = b"".join(
        b"%b%b=%b\n" % (_USER, name.encode(), value.encode()) for name, value in attributes.items()
    )
    if len(told) > _XATTRS_MAX:
        raise InvalidRequest(f"are more than {_XATTRS_MAX} bytes", field="attributes")
    return told


def info(
    entry: FileEntry,
    path: bytes,
    size: int | None = None,
    attributes: dict[str, str] | None = None,
) -> FileInfo:
    """The file at `path`; `size` where it is known better."""
    kind = _TYPES.get(stat.S_IFMT(entry.mode), FileType.DEVICE)
    text, encoded = shown(path)
    target, target_encoded = shown(entry.target)
    link = kind is FileType.SYMLINK
    return FileInfo(
        path=text,
        path_base64=encoded,
        type=kind,
        size=entry.size if size is None else size,
        mode=entry.mode & _MODE,
        modified_at=entry.modified / 1e9,
        uid=entry.uid,
        gid=entry.gid,
        attributes=attributes or {},
        target=target if link else UNSET,
        target_base64=target_encoded if link else UNSET,
    )


def draft(name: bytes) -> bool:
    """Whether it is a content on its way into a file, before it takes the file's name."""
    return _DRAFT.search(name) is not None


def event(entry: FileEntry, top: bytes) -> FileEvent | None:
    """A change below `top`; None if it is none that we know."""
    change = _CHANGES.get(entry.change)
    if change is None:
        return None
    path = top.rstrip(b"/") + b"/" + entry.name if entry.name else top
    text, encoded = shown(path)
    return FileEvent(
        change=change, path=text, path_base64=encoded, directory=stat.S_ISDIR(entry.mode)
    )
