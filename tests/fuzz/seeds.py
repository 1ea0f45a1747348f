"""The first inputs of each target, from our own encoders: `python -m tests.fuzz.seeds DIRECTORY`."""

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from sandboxd.native import Bind, ExecOrder, Plan, compile_seccomp
from sandboxd.native.core import ABI
from sandboxd.native.file_service import Op, encode

_ALLOW = bytes.fromhex("060000000000ff7f")
_SMALL_POLICY = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
    "syscalls": [
        {"names": ["read", "close"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
         "args": [{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 255, "valueTwo": 1},
                  {"index": 1, "op": "SCMP_CMP_GE", "value": 7}]},
    ],
}  # fmt: skip


def _plan(**changes: object) -> Plan:
    whole = {
        "hostname": "sandbox", "stage_dir": "/s", "lower": "/l", "binds": [Bind("/usr", "/usr")],
        "masks": ["kcore"], "seccomp": _ALLOW, "apparmor": "a", "disk": 1 << 20, "inodes": 64,
        "host_job_uid": 2000, "host_init_uid": 1999,
    } | changes  # fmt: skip
    return Plan(**whole)  # type: ignore[arg-type]


def _order(**changes: object) -> bytes:
    whole = {"argv": ["a", "b"], "env": {"A": "b"}, "files": [("d/f", 0o644, b"data")]} | changes
    order = ExecOrder(open_files=64, stack=1, file_size=1, **whole)  # type: ignore[arg-type]
    body = order.body()
    counts = len(order.argv), len(order.env), len(order.files), len(body)
    return struct.pack("<BBHIIIIIQQQHHI", 6, ABI, 0, 1, *counts, 64, 1, 1, 0, 0, 0) + body


def _messages(*messages: tuple[int, bytes]) -> bytes:
    return b"".join(bytes([fds, len(data)]) + data for fds, data in messages)


def seeds() -> Iterator[tuple[str, bytes]]:
    """Target and input."""
    yield "plan", b"\1" + _plan().encode(ABI, 0)
    yield "plan", b"\3" + _plan(masks=["a"] * 9, binds=[], below=["/m"]).encode(ABI, 2)
    yield "plan", b"\1" + _plan(session=True).encode(ABI, 0)
    yield "plan", b"\3" + _plan(mounts=["/data", "/srv/v"], build=True).encode(ABI, 0)
    yield "order", b"\2" + _order()
    yield "order", b"\2" + _order(argv=["x"] * 40, files=[])
    yield "order", b"\0" + struct.pack("<BBHI", 10, ABI, 0, 1) + b"out/*.txt\0"
    yield "request", b"\0" + encode(1, Op.MOVE, b"a/b", b"/c", flags=2)
    yield "request", b"\0" + encode(2, Op.PUT, b"f", mode=0o644, content=b"data")
    yield "request", b"\2" + encode(3, Op.WRITE, b"f", offset=9)
    yield "request", b"\1" + struct.pack("<BBHII", 12, ABI, 0, 7, 1)
    for fds, room, size in ((0, 64, 16), (16, 64, 1), (17, 64, 3), (3, 8, 16), (2, 8, 0)):
        yield "wire", bytes([fds, room]) + bytes(range(size))
    ready, armed = struct.pack("<BBHI", 4, ABI, 0, 3), struct.pack("<BBHI", 5, ABI, 0, 3)
    fail = struct.pack("<BBHiii", 1, ABI, 0, 4, 2, 1)
    asked = struct.pack("<BBH", 2, ABI, 0)
    yield "building", _messages((0, asked), (1, ready), (0, armed))
    yield "building", _messages((0, armed), (0, fail))
    yield "building", _messages((1, ready), (1, ready))
    program = compile_seccomp(json.dumps(_SMALL_POLICY).encode())
    for number, argument in ((0, 0), (41, 1), (41, 2), (1 << 30, 0)):
        head = struct.pack("<iI6Q", number, 0xC000_003E, argument, 9, 0, 0, 0, 0)
        yield "evaluate", head + program
    for kind, path in (
        (0, b"new/file"),
        (0, b"a/../../x/y"),
        (1, b"file"),
        (1, b"etc/passwd"),
        (2, b"d/x*"),
        (2, b"up/*"),
        (1, b"fifo"),
        (0, b"sibling/x"),
        (1, b"magic/etc"),
    ):
        yield "files", bytes([kind]) + path  # fmt: skip


def write(directory: Path) -> None:
    for number, (target, data) in enumerate(seeds()):
        (directory / target).mkdir(parents=True, exist_ok=True)
        (directory / target / f"seed-{number:02}").write_bytes(data)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
