"""Archives that clients send for the COPY steps of a build: kept for a while, made into one context.

They lie in this process: a build is begun, sent for and run through one gateway.
"""

import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from sandboxd.errors import InvalidRequest, QuotaExceeded

ARCHIVE_MAX = 32 << 20
"""Bytes of one archive, as it is sent."""
_ALL_MAX, _TENANT_MAX = 256 << 20, 96 << 20
_UNPACKED_MAX = 512 << 20
_BLOCK, _PIECE = 512, 256 << 10
_GZIP = b"\x1f\x8b"
_KEPT = 3600.0
"""Seconds."""


class BuildFiles:
    def __init__(self) -> None:
        self._archives: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()

    def has(self, tenant: str, name: str) -> bool:
        self._forget_old()
        return (tenant, name) in self._archives

    def put(self, tenant: str, name: str, archive: bytes) -> None:
        """Raises QuotaExceeded."""
        self._forget_old()
        self._archives.pop((tenant, name), None)
        held = [(owner, len(data)) for (owner, _), (_, data) in self._archives.items()]
        own = sum(size for owner, size in held if owner == tenant)
        if own + len(archive) > _TENANT_MAX or sum(x for _, x in held) + len(archive) > _ALL_MAX:
            raise QuotaExceeded("too many files wait for builds", retry_after=60.0)
        self._archives[tenant, name] = (time.monotonic(), archive)

    def archives(self, tenant: str, names: Iterable[str]) -> list[bytes]:
        """Raises InvalidRequest for one that was not sent, or so long ago that it is gone."""
        found = []
        for name in names:
            if not self.has(tenant, name):
                raise InvalidRequest(f"the files {name[:12]}… of a COPY were not uploaded")
            found.append(self._archives[tenant, name][1])
        return found

    def _forget_old(self) -> None:
        now = time.monotonic()
        while self._archives and now - next(iter(self._archives.values()))[0] > _KEPT:
            self._archives.popitem(last=False)


def context(archives: Iterable[bytes]) -> Iterator[bytes]:
    """One plain archive of what is in all of these, which come from one directory of the client's. Raises
    InvalidRequest. Blocks for its time, and holds little; names, links and types are for the node."""
    left = _UNPACKED_MAX
    for archive in archives:
        for piece in Entries().of(_plain(archive)):
            left -= len(piece)
            if left < 0:
                raise InvalidRequest(f"more than {_UNPACKED_MAX} bytes are to be copied")
            yield piece
    yield bytes(2 * _BLOCK)


def _plain(archive: bytes) -> Iterator[bytes]:
    """An archive as it was before it was packed, piece by piece. Raises InvalidRequest."""
    if archive[:2] != _GZIP:
        for at in range(0, len(archive), _PIECE):
            yield archive[at : at + _PIECE]
        return
    inflater, rest = zlib.decompressobj(wbits=31), archive
    try:
        while rest and not inflater.eof:
            yield inflater.decompress(rest, _PIECE)
            rest = inflater.unconsumed_tail
    except zlib.error as error:
        raise InvalidRequest(f"the files of a COPY are not gzip: {error}") from None


class Entries:
    """The entries of one archive as they are, without the blocks that end it. Of a head, only the size is
    read: how much belongs to it."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._left = 0
        self.over = False

    def of(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Raises InvalidRequest for what is no archive, or breaks off."""
        for piece in pieces:
            if out := self._take(piece):
                yield out
            if self.over:
                return
        if self._head or self._left:
            raise InvalidRequest("the files of a COPY break off")

    def _take(self, piece: bytes) -> bytes:
        out = bytearray()
        at = 0
        while at < len(piece) and not self.over:
            if self._left:
                end = min(len(piece), at + self._left)
                out += piece[at:end]
                self._left -= end - at
                at = end
                continue
            missing = _BLOCK - len(self._head)
            self._head += piece[at : at + missing]
            at += missing
            if len(self._head) == _BLOCK:
                out += self._begin(bytes(self._head))
                self._head.clear()
        return bytes(out)

    def _begin(self, head: bytes) -> bytes:
        if not any(head):
            self.over = True
            return b""
        field = head[124:136].rstrip(b"\0 ").lstrip(b" ")
        if not field.isdigit() or set(field) & set(b"89"):
            raise InvalidRequest("the files of a COPY are no archive, or one is too large")
        size = int(field, 8)
        self._left = -(-size // _BLOCK) * _BLOCK
        return head
