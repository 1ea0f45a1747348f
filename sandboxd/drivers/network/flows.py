"""Connections that are over, and the bytes of each: what the kernel's table of connections tells when it
drops an entry (ctnetlink). Pure but for `listening`, `known` and `forget`.
"""

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator

from msgspec import Struct

from sandboxd.errors import DriverFault

_DESTROYED = 4
"""NF_NETLINK_CONNTRACK_DESTROY, a group of those who listen."""
_SUBSYSTEM, _NEW, _GET, _DELETE = 1, 0, 1, 2
_DUMP, _ACKNOWLEDGED, _ERROR, _DONE = 0x301, 0x5, 2, 3
_NESTED = 0x8000
_PATIENCE = 5.0
_ORIGINAL, _MARK, _SENT, _RECEIVED, _ZONE = 1, 8, 9, 10, 18
_ADDRESSES, _PORTS = 1, 2
_SOURCES, _TARGETS = (1, 3), (2, 4)
_PROTOCOL, _TARGET_PORT = 1, 3
_BYTES = 2
_HEAD = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_CODE = struct.Struct("=i")


class Flow(Struct, frozen=True):
    source: str
    target: str
    protocol: str
    """`tcp`, `udp`, or the number."""
    port: int
    sent: int
    received: int
    """Bytes of packets."""


def listening() -> socket.socket:
    """A socket that gets them, of the calling thread's namespace. Raises DriverFault."""
    line = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 12)
    try:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        line.bind((0, _DESTROYED))
    except OSError as error:
        line.close()
        raise DriverFault("network", "listen to the connections", str(error)) from error
    return line


def known() -> list[Flow]:
    """Connections that the calling thread's namespace has now and that carry a policy's mark. Raises
    DriverFault."""
    try:
        with _asking() as line:
            return [flow for data in _dumped(line) for flow in flows(data)]
    except OSError as error:
        raise DriverFault("network", "list the connections", str(error)) from error


def forget(source: str) -> None:
    """Delete what this address opened, one by one, in the calling thread's namespace. Reads the whole
    table. Raises OSError."""
    with _asking() as line:
        entries = [body for data in _dumped(line) for _, body in _messages(data)]
        for body in entries:
            told = dict(_attributes(body[4:]))
            if _source(told) == source:
                named = _attribute(_ORIGINAL | _NESTED, told[_ORIGINAL])
                if _ZONE in told:
                    named += _attribute(_ZONE, told[_ZONE])
                _delete(line, body[:1] + bytes(3) + named)


def _asking() -> socket.socket:
    line = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    line.settimeout(_PATIENCE)
    return line


def _dumped(line: socket.socket) -> Iterator[bytes]:
    line.send(_HEAD.pack(_HEAD.size + 4, _SUBSYSTEM << 8 | _GET, _DUMP, 1, 0) + bytes(4))
    while True:
        data = line.recv(1 << 16)
        yield data
        if any(kind in (_ERROR, _DONE) for kind, _ in _messages(data)):
            return


def _delete(line: socket.socket, named: bytes) -> None:
    size = _HEAD.size + len(named)
    line.send(_HEAD.pack(size, _SUBSYSTEM << 8 | _DELETE, _ACKNOWLEDGED, 2, 0) + named)
    for kind, body in _messages(line.recv(1 << 16)):
        if kind == _ERROR:
            number = -_CODE.unpack_from(body)[0]
            if number not in (0, errno.ENOENT):  # it may be over by itself
                raise OSError(number, "delete a connection")


def _attribute(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + bytes(-len(data) % 4)


def _source(told: dict[int, bytes]) -> str:
    original = dict(_attributes(told.get(_ORIGINAL, b"")))
    return _address(dict(_attributes(original.get(_ADDRESSES, b""))), _SOURCES)


def flows(data: bytes) -> list[Flow]:
    """Those in one datagram of the socket that carry a policy's mark; what is malformed is skipped."""
    found = []
    for kind, body in _messages(data):
        if kind in (_SUBSYSTEM << 8 | _DELETE, _SUBSYSTEM << 8 | _NEW):
            flow = _flow(dict(_attributes(body[4:])))
            if flow is not None:
                found.append(flow)
    return found


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEAD.size:
        size, kind, *_ = _HEAD.unpack_from(data)
        if size < _HEAD.size or size > len(data):
            return
        yield kind, data[_HEAD.size : size]
        data = data[size + -size % 4 :]


def _flow(told: dict[int, bytes]) -> Flow | None:
    if not any(told.get(_MARK, b"")):
        return None
    original = dict(_attributes(told.get(_ORIGINAL, b"")))
    addresses = dict(_attributes(original.get(_ADDRESSES, b"")))
    ports = dict(_attributes(original.get(_PORTS, b"")))
    source, target = (_address(addresses, kinds) for kinds in (_SOURCES, _TARGETS))
    number = ports.get(_PROTOCOL, b"")
    if not source or not target or len(number) != 1:
        return None
    return Flow(
        source,
        target,
        {6: "tcp", 17: "udp"}.get(number[0], str(number[0])),
        int.from_bytes(ports.get(_TARGET_PORT, b"")[:2], "big"),
        _counted(told.get(_SENT, b"")),
        _counted(told.get(_RECEIVED, b"")),
    )


def _address(found: dict[int, bytes], kinds: tuple[int, int]) -> str:
    for kind, size in zip(kinds, (4, 16), strict=True):
        raw = found.get(kind, b"")
        if len(raw) == size:
            return str(ipaddress.ip_address(raw))
    return ""


def _counted(counters: bytes) -> int:
    return int.from_bytes(dict(_attributes(counters)).get(_BYTES, b"")[:8], "big")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        if size < _ATTRIBUTE.size or size > len(data):
            return
        yield kind & 0x3FFF, data[_ATTRIBUTE.size : size]
        data = data[size + -size % 4 :]
