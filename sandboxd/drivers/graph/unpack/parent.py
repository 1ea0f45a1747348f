"""Unpacks a layer's archive into a directory, in a child that is as locked as a sandbox.

The archive is a stranger's: whoever parses it may be taken over by it. So the parser runs in a child
without privileges, network or a way to any other file (`lockdown`), and what it reports is believed
only where a lie hurts none but its own layer. The rules for entries are at the head of `tree`.
"""

import json
import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from sandboxd.drivers.graph import syscalls
from sandboxd.drivers.graph.unpack.lockdown import ALLOWED
from sandboxd.drivers.graph.unpack.tree import Limits
from sandboxd.errors import DriverFault, InvalidImage
from sandboxd.native import compile_seccomp

__all__ = ["IDS", "Limits", "Unpacked", "unpack"]

IDS = 65_536
"""Owners in a layer: ids 0 to 65,535, kept on disk as `uid_base` + id."""
_REPORT_MAX = 64 << 20
_PACKAGE = Path(__file__).resolve().parents[4]
_START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from sandboxd.drivers.graph.unpack.child import main; main()"
)


class Unpacked(Struct, frozen=True):
    diff_id: str
    """Digest of the uncompressed archive, as the child has it."""
    entries: int
    bytes: int
    left_out: int
    """Device nodes."""
    opaque: list[str]


def unpack(blob: Path, target: Path, *, limits: Limits, uid_base: int) -> Unpacked:
    """Write the layer in `blob` into the empty directory `target`; blocks until it is there.

    Owners become `uid_base` + their id. Raises InvalidImage for an archive that is refused, then
    `target` may hold part of it; DriverFault where the host failed.
    """
    blob_fd = os.open(blob, os.O_RDONLY | os.O_CLOEXEC)
    target_fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchown(target_fd, uid_base, uid_base)
        with theirs:
            child = _start(blob_fd, target_fd, theirs, limits)
        report = _converse(child, ours, uid_base)
        for path in report.opaque:
            _make_opaque(target_fd, path)
        return report
    except OSError as error:
        raise DriverFault("graph", "unpack a layer", str(error)) from error
    finally:
        ours.close()
        os.close(target_fd)
        os.close(blob_fd)


def _start(
    blob: int, target: int, line: socket.socket, limits: Limits
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [
            sys.executable, "-I", "-X", "faulthandler=0", "-c", _START, str(_PACKAGE),
            *map(str, (blob, target, line.fileno(), os.getpid(), limits.entries, limits.bytes)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=(blob, target, line.fileno()),
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        start_new_session=True,
    )  # fmt: skip


def _converse(child: "subprocess.Popen[bytes]", line: socket.socket, uid_base: int) -> Unpacked:
    assert child.stderr is not None
    data = bytearray()
    try:
        if line.recv(3):
            ids = f"0 {uid_base} {IDS}"
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{child.pid}/{name}").write_text(ids)
            line.sendall(_program())
            while part := line.recv(1 << 20):
                data += part
                if len(data) > _REPORT_MAX:
                    raise DriverFault("graph", "unpack a layer", "the child's report is too long")
    except BaseException:
        child.kill()
        raise
    finally:
        said = child.stderr.read(4096)
        child.stderr.close()
        code = child.wait()
    return _report(bytes(data), code, said)


def _report(data: bytes, code: int, said: bytes) -> Unpacked:
    try:
        # Not msgspec: paths that are not UTF-8 come as lone surrogates, which it refuses.
        report: Any = json.loads(data)
    except ValueError:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        cause = f"the child ended with {code}: {last}"
        raise DriverFault("graph", "unpack a layer", cause) from None
    if "refused" in report:
        raise InvalidImage(str(report["refused"]))
    if "failed" in report:
        raise DriverFault("graph", "unpack a layer", str(report["failed"]))
    try:
        return msgspec.convert(report, Unpacked)
    except msgspec.ValidationError as error:
        raise DriverFault("graph", "unpack a layer", f"the child's report: {error}") from None


def _make_opaque(root: int, path: str) -> None:
    fd = syscalls.open_beneath(root, os.fsencode(path) or b".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Only the host may set it, which is why no archive and no sandbox can.
        os.setxattr(fd, "trusted.overlay.opaque", b"y")
    finally:
        os.close(fd)


@cache
def _program() -> bytes:
    return compile_seccomp(
        msgspec.json.encode(
            {
                "defaultAction": "SCMP_ACT_KILL_PROCESS",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
                "syscalls": [{"names": ALLOWED, "action": "SCMP_ACT_ALLOW"}],
            }
        )
    )
