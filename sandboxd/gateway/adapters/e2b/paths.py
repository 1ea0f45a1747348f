"""Paths as E2B's clients write them, and times and kinds as they read them. Pure."""

import posixpath
import stat
from datetime import UTC, datetime
from typing import Any

from msgspec import UNSET

from sandboxd.errors import InvalidRequest
from sandboxd.gateway.adapters.e2b.words import HOME
from sandboxd.gateway.sessions import admission
from sandboxd.model.session import FileInfo, FileType

_TYPES = {
    FileType.FILE: "FILE_TYPE_FILE",
    FileType.DIRECTORY: "FILE_TYPE_DIRECTORY",
    FileType.SYMLINK: "FILE_TYPE_SYMLINK",
}
_BITS = {
    FileType.FILE: stat.S_IFREG,
    FileType.DIRECTORY: stat.S_IFDIR,
    FileType.SYMLINK: stat.S_IFLNK,
    FileType.FIFO: stat.S_IFIFO,
    FileType.SOCKET: stat.S_IFSOCK,
    FileType.DEVICE: stat.S_IFCHR,
}
NOTES = "e2b."
"""How the extended attributes begin in which metadata of files is kept."""
_NAMES = {0: "root", 1000: "user", 65534: "nobody"}


def absolute(path: str, user: str) -> str:
    """Relative ones begin at the user's home, as does `~`. Raises InvalidRequest."""
    home = "/root" if user == "root" else HOME
    if not path or path == "~":
        return home
    if path.startswith("~/"):
        path = path[2:]
    elif path.startswith("~"):
        raise InvalidRequest("another user's home is not known", field="path")
    return posixpath.normpath(posixpath.join(home, path))


def encoded(path: str, user: str) -> bytes:
    """The same as the node takes it. Raises InvalidRequest."""
    return admission.path(absolute(path, user), None)


def entry(info: FileInfo, target: FileInfo | None = None) -> dict[str, Any]:
    """E2B's EntryInfo; `target` is what a link leads to, where it leads anywhere."""
    real = target or info
    found: dict[str, Any] = {
        "name": posixpath.basename(info.path.rstrip("/")),
        "type": _TYPES.get(real.type, "FILE_TYPE_UNSPECIFIED"),
        "path": info.path,
        "size": str(info.size),
        "mode": info.mode,
        "permissions": stat.filemode(_BITS[info.type] | info.mode),
        "owner": _NAMES.get(info.uid, str(info.uid)),
        "group": _NAMES.get(info.gid, str(info.gid)),
        "modifiedTime": datetime.fromtimestamp(info.modified_at, UTC)
        .isoformat(timespec="microseconds")
        .replace("+00:00", "Z"),
    }
    notes = {
        name.removeprefix(NOTES): value
        for name, value in real.attributes.items()
        if name.startswith(NOTES)
    }
    if notes:
        found["metadata"] = notes
    if info.type is FileType.SYMLINK:
        found["isSymlink"] = True
        if info.target is not UNSET:
            found["symlinkTarget"] = info.target
    return found


def written(info: FileInfo, metadata: dict[str, str]) -> dict[str, Any]:
    """What an upload is answered with."""
    told = {"path": info.path, "name": posixpath.basename(info.path), "type": "file"}
    return {**told, "metadata": metadata} if metadata else told
