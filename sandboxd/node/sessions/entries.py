"""What the file service says of a file, as clients see it. Pure; nothing of it is trusted."""

import re
import stat

from msgspec import UNSET

from sandboxd.model.session import FileChange, FileEvent, FileInfo, FileType, shown
from sandboxd.native.file_service import FileEntry

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


def info(entry: FileEntry, path: bytes, size: int | None = None) -> FileInfo:
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
