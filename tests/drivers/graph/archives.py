"""Tar archives made by hand, also such as no tool would write."""

import gzip
import io
import tarfile
from collections.abc import Callable, Iterable, Mapping

DIR, LINK, HARD, CHAR, BLOCK, FIFO = (
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
)


class Item:
    def __init__(
        self,
        name: str,
        content: bytes = b"",
        kind: bytes = tarfile.REGTYPE,
        *,
        mode: int = 0o644,
        to: str = "",
        uid: int = 0,
        pax: Mapping[str, str] | None = None,
        device: tuple[int, int] = (0, 0),
    ) -> None:
        self.info = tarfile.TarInfo(name)
        self.info.type, self.info.mode, self.info.linkname = kind, mode, to
        self.info.uid = self.info.gid = uid
        self.info.size = len(content)
        self.info.pax_headers = dict(pax or {})
        self.info.devmajor, self.info.devminor = device
        self.content = content


def d(name: str, mode: int = 0o755) -> Item:
    return Item(name, kind=DIR, mode=mode)


def archive(items: Iterable[Item], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(mode="w", fileobj=buffer, format=format) as out:
        for item in items:
            out.addfile(item.info, io.BytesIO(item.content))
    return buffer.getvalue()


def header(**changes: bytes) -> bytes:
    """One raw header with a right checksum, fields given as bytes."""
    fields: dict[str, tuple[int, int]] = {
        "name": (0, 100), "mode": (100, 8), "uid": (108, 8), "gid": (116, 8), "size": (124, 12),
        "mtime": (136, 12), "type": (156, 1), "link": (157, 100), "magic": (257, 8),
        "prefix": (345, 155),
    }  # fmt: skip
    raw = bytearray(512)
    given = {
        "name": b"x", "mode": b"0000644", "uid": b"0000000", "gid": b"0000000",
        "size": b"00000000000", "mtime": b"00000000000", "type": b"0", "magic": b"ustar\x0000",
        **changes,
    }  # fmt: skip
    for field, value in given.items():
        at, length = fields[field]
        raw[at : at + length] = value.ljust(length, b"\0")[:length]
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


END = bytes(1024)


def bomb(size: int) -> bytes:
    """A gzip of an archive with one file of `size` zeros."""
    info = tarfile.TarInfo("zeros")
    info.size = size
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as out:
        out.write(info.tobuf())
        block = bytes(1 << 20)
        for _ in range(size >> 20):
            out.write(block)
        out.write(END)
    return buffer.getvalue()


Mutation = Callable[[bytes], bytes]
