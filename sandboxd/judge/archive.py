"""Files of a problem package, from a zip or a directory: read into memory, never unpacked to disk.

A stranger made the archive. Nothing in it is believed: sizes are counted while they come out, names are
checked part by part, and what is not a plain file or directory is refused by name.
"""

import os
import stat
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from msgspec import Struct

_CHUNK = 1 << 16
_NAME_MAX, _DEPTH_MAX = 255, 16
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class PackageError(ValueError):
    """The package breaks a rule, or makes no sense; the text says where."""


class Rules(Struct, frozen=True, kw_only=True):
    """What a package may be at most, in bytes."""

    total: int = 64 << 20
    file: int = 16 << 20
    files: int = 10_000


Tree = Mapping[str, bytes]
"""Content by path relative to the package, with `/` between its parts."""


def from_zip(data: bytes, rules: Rules) -> dict[str, bytes]:
    """Raises PackageError."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            return _stripped(_members(archive, rules))
    except (
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError,
        UnicodeDecodeError, OverflowError,
    ) as error:  # fmt: skip
        raise PackageError(f"not a zip that can be read: {error}") from None


def _members(archive: zipfile.ZipFile, rules: Rules) -> dict[str, bytes]:
    members = archive.infolist()
    if len(members) > 2 * rules.files:
        raise PackageError(f"more than {rules.files} files")
    tree: dict[str, bytes] = {}
    left = rules.total
    for member in members:
        name = _checked(member.orig_filename.removesuffix("/"))
        mode = member.external_attr >> 16
        if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_IFMT(mode) == 0):
            raise PackageError(f"{name}: not a plain file (a link, a device?)")
        if member.orig_filename.endswith("/"):
            continue
        if member.flag_bits & 1 or member.compress_type not in _METHODS:
            raise PackageError(f"{name}: encrypted, or compressed in an unknown way")
        if name in tree:
            raise PackageError(f"{name}: twice in the archive")
        if len(tree) >= rules.files:
            raise PackageError(f"more than {rules.files} files")
        with archive.open(member) as source:
            tree[name] = _bounded(source.read, name, min(rules.file, left))
        left -= len(tree[name])
    return tree


def _bounded(read: object, name: str, room: int) -> bytes:
    """All that comes out, if it is at most `room` bytes, whatever the header promised."""
    data = bytearray()
    while chunk := read(_CHUNK):  # type: ignore[operator]
        data += chunk
        if len(data) > room:
            raise PackageError(f"{name}: too large, as a file or with all the others")
    return bytes(data)


def from_directory(directory: Path, rules: Rules) -> dict[str, bytes]:
    """Files below `directory`, links not followed but refused. Raises PackageError, OSError."""
    tree: dict[str, bytes] = {}
    left = rules.total
    for parent, names, files, parent_fd in os.fwalk(directory, follow_symlinks=False):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for each in sorted(files):
            if each.startswith(".") and each != ".timelimit":
                continue
            path = _checked((Path(parent) / each).relative_to(directory).as_posix())
            fd = os.open(each, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent_fd)
            with open(fd, "rb") as source:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise PackageError(f"{path}: not a plain file")
                if len(tree) >= rules.files:
                    raise PackageError(f"more than {rules.files} files")
                tree[path] = _bounded(source.read, path, min(rules.file, left))
            left -= len(tree[path])
    return tree


def _checked(name: str) -> str:
    """Raises PackageError for a name that could mean something outside, or two things."""
    parts = name.split("/")
    if len(parts) > _DEPTH_MAX or any(part in ("", ".", "..") for part in parts):
        raise PackageError(f"{name[:80]!r}: not a plain relative path")
    if "\\" in name or "\0" in name or any(len(part.encode()) > _NAME_MAX for part in parts):
        raise PackageError(f"{name[:80]!r}: not a name that every system takes")
    return name


def _stripped(tree: dict[str, bytes]) -> dict[str, bytes]:
    """Without the one directory that many archives have around everything."""
    roots = {name.partition("/")[0] for name in tree}
    if len(roots) != 1 or any("/" not in name for name in tree):
        return tree
    [root] = roots
    inner = {name.removeprefix(root + "/"): data for name, data in tree.items()}
    return inner if "problem.yaml" in inner else tree
