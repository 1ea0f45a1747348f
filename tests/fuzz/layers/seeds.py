"""The first archives: one of each rule at the head of `unpack.tree`, kept or broken."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.drivers.graph.archives import (
    BLOCK,
    CHAR,
    DIR,
    END,
    FIFO,
    HARD,
    LINK,
    Item,
    archive,
    d,
    header,
)

_LONG = "/".join(["n" * 100] * 3)


def seeds() -> Iterator[bytes]:
    plain = [d("etc"), Item("etc/passwd", b"root\n", uid=3), Item("usr/bin/sh", b"#!", mode=0o4755)]
    links = [Item("a", b"1"), Item("b", kind=HARD, to="a"), Item("c", kind=LINK, to="../etc")]
    hidden = [d("d"), Item("d/.wh.gone"), Item("d/.wh..wh..opq"), Item(".wh.etc")]
    for dialect in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        yield archive(plain, dialect)
        yield archive(links, dialect)
    yield archive(hidden)
    yield archive([*plain, *links, *hidden, *plain])
    yield archive([Item(_LONG, b"x")], tarfile.GNU_FORMAT)
    yield archive([Item(_LONG, b"x")], tarfile.PAX_FORMAT)
    yield archive(
        [Item("x", pax={"SCHILY.xattr.user.a": "b", "SCHILY.xattr.trusted.overlay.opaque": "y"})]
    )
    yield archive([Item("x", pax={"mtime": "1e300", "uid": "99999", "path": "y/../z"})])
    yield archive(
        [Item("p", kind=FIFO), Item("n", kind=CHAR, device=(1, 3)), Item("n", kind=BLOCK)]
    )
    yield archive([d("a"), Item("a", kind=LINK, to="/"), Item("a/b", b"x")])
    yield archive([Item("../up", b"x")])
    yield header(name=b"x/", type=b"\0") + END
    yield header(uid=b"\x80\0\0\0\0\1\0\0", size=b"\xff" * 12) + END
    yield (
        header(type=b"x", size=b"00000000015") + b"13 path=a/b\n".ljust(512, b"\0") + header() + END
    )
    yield header(type=DIR, name=b"\xff\xfe", prefix=b"p") + END


def write(directory: Path) -> None:
    directory.mkdir()
    for number, data in enumerate(seeds()):
        for kind in (0, 1, 2, 0xF3) if number % 4 == 0 else (0,):
            (directory / f"seed-{number:02}-{kind}").write_bytes(bytes([kind]) + data)
