"""Paths that a request names: relative to /work, and never a way out of it."""

from collections.abc import Iterable

from sandboxd.errors import InvalidRequest

_MAX_PART = 255
_MAX_PATH = 1024


def check_path(path: str, field: str) -> None:
    """Raises InvalidRequest unless `path` names something strictly below /work."""
    try:
        raw = path.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("a path must be valid Unicode", field=field) from None
    if not raw or len(raw) > _MAX_PATH:
        raise InvalidRequest(f"a path has 1 to {_MAX_PATH} bytes", field=field)
    if b"\0" in raw:
        raise InvalidRequest("a path must not contain NUL", field=field)
    if raw.startswith(b"/"):
        raise InvalidRequest("a path must be relative", field=field)
    for part in raw.split(b"/"):
        if part in (b"", b".", b".."):
            raise InvalidRequest("a path must not have empty, `.` or `..` parts", field=field)
        if len(part) > _MAX_PART:
            raise InvalidRequest(f"a part of a path has at most {_MAX_PART} bytes", field=field)


def check_tree(paths: Iterable[str]) -> None:
    """Raises InvalidRequest if one path would have to be a file and a directory at once."""
    files = set(paths)
    for path in files:
        end = path.find("/")
        while end != -1:
            if path[:end] in files:
                raise InvalidRequest(f"{path[:end]!r} is also a file", field=f"files.{path}")
            end = path.find("/", end + 1)
