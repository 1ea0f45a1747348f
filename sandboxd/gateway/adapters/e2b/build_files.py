"""Archives that clients send for the COPY steps of a build: kept for a while, made into one context.

They lie in this process: a build is begun, sent for and run through one gateway.
"""

import io
import tarfile
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from posixpath import normpath

from sandboxd.errors import InvalidRequest, QuotaExceeded

ARCHIVE_MAX = 32 << 20
"""Bytes of one archive, as it is sent."""
_ALL_MAX, _TENANT_MAX = 256 << 20, 96 << 20
_UNPACKED_MAX = 512 << 20
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

    def archives(self, tenant: str, names: Iterable[str]) -> dict[str, bytes]:
        """Raises InvalidRequest for one that was not sent, or so long ago that it is gone."""
        found = {}
        for name in names:
            if not self.has(tenant, name):
                raise InvalidRequest(f"the files {name[:12]}… of a COPY were not uploaded")
            found[name] = self._archives[tenant, name][1]
        return found

    def _forget_old(self) -> None:
        now = time.monotonic()
        while self._archives and now - next(iter(self._archives.values()))[0] > _KEPT:
            self._archives.popitem(last=False)


def context(archives: dict[str, bytes]) -> Iterator[bytes]:
    """One plain archive in which each of these is a directory of its name. What is in them is taken as
    it is: the node refuses what it does not like. Blocks. Raises InvalidRequest."""
    out = io.BytesIO()
    left = _UNPACKED_MAX
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as whole:
        for name, archive in archives.items():
            try:
                with tarfile.open(fileobj=io.BytesIO(archive), mode="r|*") as part:
                    for member in part:
                        left -= member.size + tarfile.BLOCKSIZE
                        if left < 0:
                            raise InvalidRequest(
                                f"more than {_UNPACKED_MAX} bytes are to be copied"
                            )
                        _add(whole, part, member, name)
                        yield _drained(out)
            except (tarfile.TarError, EOFError, OSError) as error:
                raise InvalidRequest(f"the files {name[:12]}… are no archive: {error}") from None
    yield _drained(out)


def _add(
    whole: tarfile.TarFile, part: tarfile.TarFile, member: tarfile.TarInfo, directory: str
) -> None:
    path = normpath("/" + member.name).lstrip("/")
    content = part.extractfile(member) if member.isreg() else None
    if member.islnk():
        member.linkname = f"{directory}/{normpath('/' + member.linkname).lstrip('/')}"
    member.name = f"{directory}/{path}" if path else directory
    whole.addfile(member, content)


def _drained(out: io.BytesIO) -> bytes:
    data = out.getvalue()
    out.seek(0)
    out.truncate()
    return data
