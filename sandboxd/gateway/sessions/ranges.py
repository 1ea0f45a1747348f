"""Byte ranges of RFC 9110, one at a time. Pure."""

import re

from msgspec import Struct

from sandboxd.errors import RequestError
from sandboxd.model.session import FileInfo

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


class RangeNotSatisfiable(RequestError):
    code, status, title = "range_not_satisfiable", 416, "The file is not that long"


class Range(Struct, frozen=True):
    """What is asked for, before the size is known. `first` None: the last `last` bytes."""

    first: int | None
    last: int | None

    def within(self, size: int) -> tuple[int, int]:
        """Offset and length. Raises RangeNotSatisfiable."""
        if self.first is None:
            length = min(self.last or 0, size)
            if length == 0:
                raise RangeNotSatisfiable(f"the file has {size} bytes")
            return size - length, length
        if self.first >= size:
            raise RangeNotSatisfiable(f"the file has {size} bytes")
        last = size - 1 if self.last is None else min(self.last, size - 1)
        return self.first, last - self.first + 1


def parse(header: str | None) -> Range | None:
    """None where there is no range, or one that we need not understand: then all of it is sent."""
    match = _RANGE.fullmatch(header.replace(" ", "")) if header else None
    if match is None or not any(match.groups()):
        return None
    first = int(match[1]) if match[1] else None
    last = int(match[2]) if match[2] else None
    if first is not None and last is not None and last < first:
        return None
    return Range(first, last)


def tag(info: FileInfo) -> str:
    """An entity tag: another after each change that the file system's clock can tell apart."""
    return f'"{info.size:x}-{info.modified_at:.9f}"'
