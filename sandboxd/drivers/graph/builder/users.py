"""Users and groups by name, as an image's /etc/passwd and /etc/group have them."""

from pathlib import PurePosixPath

from sandboxd.drivers.graph.merged import Merged

_ID_MAX = 65_534
_FILE_MAX = 1 << 20


def user(image: Merged, text: str) -> tuple[int, str]:
    """uid and home of `name`, `uid`, or either with `:group`. Raises ValueError."""
    name = text.partition(":")[0] or "0"
    for fields in _lines(image, "/etc/passwd"):
        if len(fields) >= 6 and (fields[0] == name or (name.isdigit() and fields[2] == name)):
            return _number(fields[2]), fields[5] or "/"
    return (0, "/root") if name == "0" else (_number(name), "/")


def owner(image: Merged, text: str) -> tuple[int, int]:
    """uid and gid of `user[:group]`; without a group, the number that the user has. Raises
    ValueError."""
    name, colon, group = text.partition(":")
    uid = user(image, name)[0]
    if not colon:
        return uid, uid
    for fields in _lines(image, "/etc/group"):
        if len(fields) >= 3 and fields[0] == group:
            return uid, _number(fields[2])
    return uid, _number(group)


def _lines(image: Merged, path: str) -> list[list[str]]:
    text = image.read(PurePosixPath(path), _FILE_MAX).decode(errors="replace")
    return [line.split(":") for line in text.splitlines()]


def _number(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 5 or int(text) > _ID_MAX:
        raise ValueError(
            f"there is no user or group {text[:40]!r}, or its number is above {_ID_MAX}"
        )
    return int(text)
