"""libFuzzer on the unpacking of layers: `python -m tests.fuzz.layers.target [libFuzzer's options]`.

Runs the code of the unpacking child on hostile archives, in a user namespace whose ids are the layers'
(`running` gives them), so that it can make no file outside of what is the layers'.
Promised of every input: it is refused in words or becomes a layer; no other exception, no descriptor
left, nothing beside the layer; a layer has no device but whiteouts, no set-id bit, no attribute of the
host's, no more entries and bytes than the limits, and the digest of its archive.
"""

import gzip
import hashlib
import os
import random
import shutil
import stat
import sys
import zlib
from pathlib import Path
from types import FunctionType

import atheris
import zstandard

from sandboxd.drivers.graph.unpack import child, lockdown, source, tar, tree

BLOCK = 512
LIMITS = tree.Limits(entries=40, bytes=1 << 18)
PLACE = Path(os.environ["FUZZ_PLACE"])
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def _instrument() -> None:
    """Function by function: the importer of an editable installation is not one that atheris hooks."""
    for module in (child, source, tar, tree):
        for found in vars(module).values():
            members = vars(found).values() if isinstance(found, type) else (found,)
            for each in members:
                if isinstance(each, FunctionType) and each.__module__ == module.__name__:
                    atheris.instrument_func(each)


def one(data: bytes) -> None:
    """The first byte chooses the compression; then the archive."""
    if not data:
        return
    layer = PLACE / "layer"
    layer.mkdir()
    before = sorted(os.listdir(PLACE)), len(os.listdir("/proc/self/fd"))
    blob = os.memfd_create("blob", os.MFD_CLOEXEC)
    root = os.open(layer, _OPEN)
    try:
        written = _compressed(data[0], data[1:])
        os.write(blob, written)
        os.lseek(blob, 0, os.SEEK_SET)
        try:
            report = child._unpack(root, source.Source(blob, LIMITS.bytes), LIMITS)
        except tar.Malformed as error:  # of opening
            report = {"refused": str(error)}
        _check(report, written, layer)
    finally:
        os.close(root)
        os.close(blob)
        after = sorted(os.listdir(PLACE)), len(os.listdir("/proc/self/fd"))
        shutil.rmtree(layer)
    assert after == before, f"{before} became {after}"


def _compressed(kind: int, archive: bytes) -> bytes:
    if kind % 8 == 1:
        return gzip.compress(archive, 1)
    if kind % 8 == 2:
        return zstandard.compress(archive, 1)
    if kind % 8 == 3:  # compressed, and broken somewhere
        whole = gzip.compress(archive, 1)
        return whole[: len(whole) * (kind >> 3) // 32]
    return archive  # as it is, also where it says to be compressed


def _check(report: dict[str, object], written: bytes, layer: Path) -> None:
    assert "failed" not in report, report
    if "refused" in report:
        assert str(report["refused"]).isprintable()
        return
    assert int(str(report["entries"])) <= LIMITS.entries
    assert int(str(report["bytes"])) <= LIMITS.bytes
    assert report["diff_id"] == "sha256:" + hashlib.sha256(_plain(written)).hexdigest()
    for directory, directories, files in os.walk(bytes(layer)):
        for name in [*directories, *files]:
            path = os.path.join(directory, name)
            found = os.lstat(path)
            assert not found.st_mode & (stat.S_ISUID | stat.S_ISGID), path
            assert not stat.S_ISBLK(found.st_mode) and not stat.S_ISSOCK(found.st_mode), path
            assert not stat.S_ISCHR(found.st_mode) or found.st_rdev == 0, path
            for attribute in os.listxattr(path, follow_symlinks=False):
                assert attribute.startswith("user."), (path, attribute)


def _plain(written: bytes) -> bytes:
    if written[:2] == b"\x1f\x8b":
        plain, rest = b"", written
        while rest.strip(b"\0"):
            member = zlib.decompressobj(31)
            plain += member.decompress(rest.lstrip(b"\0"))
            rest = member.unused_data
        return plain
    if written[:4] == b"\x28\xb5\x2f\xfd":
        return zstandard.ZstdDecompressor().stream_reader(written, read_across_frames=True).read()
    return written


def mutated(data: bytes, room: int, seed: int) -> bytes:
    """libFuzzer's own mutations, and blocks moved about; then sums that are right, mostly."""
    dice = random.Random(seed)
    head, archive = data[:1] or b"\0", bytearray(data[1:])
    blocks = len(archive) // BLOCK
    if blocks > 1 and dice.random() < 0.3:
        one, other = (dice.randrange(blocks) * BLOCK for _ in range(2))
        block = archive[one : one + BLOCK]
        if dice.random() < 0.5:
            archive[other : other + BLOCK] = block
        elif len(archive) + BLOCK < room:
            archive[other:other] = block
    else:
        changed = atheris.Mutate(head + bytes(archive), room)
        head, archive = changed[:1] or b"\0", bytearray(changed[1:])
    if dice.random() < 0.9:
        _sum_up(archive)
    return bytes(head + archive)[:room]


def _sum_up(archive: bytearray) -> None:
    for at in range(0, len(archive) - BLOCK + 1, BLOCK):
        header = archive[at : at + BLOCK]
        if header[257:262] == b"ustar":
            header[148:156] = b" " * 8
            archive[at + 148 : at + 156] = b"%06o\0 " % (sum(header) & 0o777777)


def _mapped() -> None:
    print("map", flush=True)
    assert sys.stdin.readline() == "go\n"


if __name__ == "__main__":
    lockdown.enter_userns(_mapped)
    _instrument()
    atheris.Setup(sys.argv, one, custom_mutator=mutated)
    atheris.Fuzz()
