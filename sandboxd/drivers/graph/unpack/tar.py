"""Reads a tar stream entry by entry: v7, ustar, GNU long names, pax. Pure: bytes in, entries out.

It trusts nothing: every header's checksum is checked, numbers and extended headers are bounded, and
what it does not know (sparse files, multi-volume archives) it refuses instead of guessing.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

BLOCK = 512
_EXTENDED_MAX = 1 << 20
"""Bytes of one extended header: a few xattrs of the kernel's maximum each."""
_ZEROS = bytes(BLOCK)

REGULAR, HARD_LINK, SYMLINK, DEVICE, DIRECTORY, FIFO = (
    "file",
    "link",
    "symlink",
    "device",
    "dir",
    "fifo",
)
_KINDS = {
    b"0": REGULAR, b"\0": REGULAR, b"7": REGULAR, b"1": HARD_LINK, b"2": SYMLINK,
    b"3": DEVICE, b"4": DEVICE, b"5": DIRECTORY, b"6": FIFO,
}  # fmt: skip
_XATTR = b"SCHILY.xattr."


class Malformed(ValueError):
    """The stream is not a tar archive that we read."""


class Entry(NamedTuple):
    name: bytes
    """As written: not yet checked."""
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    """Bytes of content that follow; 0 unless it is a file."""
    mtime: float
    link: bytes
    """Target of a symbolic or hard link, as written."""
    xattrs: dict[bytes, bytes]


class _Extended(NamedTuple):
    name: bytes | None = None
    link: bytes | None = None
    pax: Mapping[bytes, bytes] = MappingProxyType({})


def entries(read: Callable[[int], bytes]) -> Iterator[Entry]:
    """The archive's entries; the caller reads each one's content, and `padding` after it, itself.

    `read` returns exactly so many bytes or raises. Raises Malformed.
    """
    extended = _Extended()
    while True:
        header = read(BLOCK)
        if header == _ZEROS:
            return
        _check_sum(header)
        kind = header[156:157]
        size = _number(header[124:136])
        if kind in (b"x", b"L", b"K", b"g"):
            extended = _extend(extended, kind, _extension(read, size))
            continue
        if kind == b"V":
            _extension(read, size)
            continue
        yield _entry(header, kind, size, extended)
        extended = _Extended()


def padding(size: int) -> int:
    """Bytes that fill up the last block of a content of `size` bytes."""
    return -size % BLOCK


def _extension(read: Callable[[int], bytes], size: int) -> bytes:
    if size > _EXTENDED_MAX:
        raise Malformed(f"an extended header of {size} bytes")
    return read(size + padding(size))[:size]


def _extend(extended: _Extended, kind: bytes, data: bytes) -> _Extended:
    if kind == b"L":
        return extended._replace(name=data.partition(b"\0")[0])
    if kind == b"K":
        return extended._replace(link=data.partition(b"\0")[0])
    if kind == b"x":
        return extended._replace(pax=_pax(data))
    return extended  # a global header: comments of archivers, nothing that an image needs


def _entry(header: bytes, kind: bytes, size: int, extended: _Extended) -> Entry:
    pax = extended.pax
    name = pax.get(b"path") or extended.name or _name(header)
    link = pax.get(b"linkpath") or extended.link or _text(header[157:257])
    if kind not in _KINDS or any(key.startswith(b"GNU.sparse") for key in pax):
        raise Malformed(f"{printable(name)}: entries of type {kind!r} or sparse are not supported")
    what = _KINDS[kind]
    if what is REGULAR and name.endswith(b"/"):
        what = DIRECTORY  # as v7 archives have it
    return Entry(
        name=name,
        kind=what,
        mode=_number(header[100:108]),
        uid=_decimal(pax, b"uid", header[108:116]),
        gid=_decimal(pax, b"gid", header[116:124]),
        size=_decimal(pax, b"size", header[124:136]) if what is REGULAR else 0,
        mtime=_mtime(pax, header),
        link=link,
        xattrs={k[len(_XATTR) :]: v for k, v in pax.items() if k.startswith(_XATTR)},
    )


def printable(name: bytes) -> str:
    """A hostile name for an error message: one line, bounded."""
    text = name[:200].decode("utf-8", "backslashreplace")
    return repr(text + ("…" if len(name) > 200 else ""))


def _name(header: bytes) -> bytes:
    name = _text(header[0:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _check_sum(header: bytes) -> None:
    # The sum is taken with its own field full of spaces.
    total = sum(header) - sum(header[148:156]) + 8 * 32
    if _number(header[148:156]) != total:
        raise Malformed("a header whose checksum is wrong")


def _number(field: bytes) -> int:
    """Octal text, or GNU's big-endian binary for what does not fit."""
    if field[0] in (0x80, 0xFF):
        value = int.from_bytes(field[1:], "big")
        return value - (1 << 8 * len(field) - 8) if field[0] == 0xFF else value
    text = field.partition(b"\0")[0].strip()
    if not text:
        return 0
    if not all(48 <= digit < 56 for digit in text):
        raise Malformed(f"{text!r} is not a number")
    return int(text, 8)


def _decimal(pax: Mapping[bytes, bytes], key: bytes, field: bytes) -> int:
    text = pax.get(key)
    if text is None:
        value = _number(field)
    elif text.isdigit() and len(text) < 20:
        value = int(text)
    else:
        raise Malformed(f"{key!r} is {text[:40]!r}, not a number")
    if value < 0:
        raise Malformed(f"{key!r} is negative")
    return value


def _mtime(pax: Mapping[bytes, bytes], header: bytes) -> float:
    text = pax.get(b"mtime")
    try:
        value = float(text) if text is not None else float(_number(header[136:148]))
    except ValueError:
        raise Malformed("a time that is not a number") from None
    return min(max(value, 0.0), float(1 << 33)) if value == value else 0.0


def _pax(data: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        length = data[at:space] if space > 0 else b""
        if not length.isdigit():
            raise Malformed("a pax record without a length")
        end = at + int(length)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space + 1 or data[end - 1 : end] != b"\n" or not equals:
            raise Malformed("a pax record that does not end")
        if b"\0" in value and not key.startswith(_XATTR):
            raise Malformed(f"{key[:40]!r} holds a NUL")
        records[key] = value
        at = end
    return records
