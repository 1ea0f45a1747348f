"""What the firewall reports: the heads of packets that it stopped or let begin, by NFLOG.

A rule's verdict and name come as the message's prefix, `verdict:rule`. The kernel hands over the first
bytes of each packet; nothing here trusts them further than addresses and ports.
"""

import ipaddress
import socket
import struct

from msgspec import Struct

from sandboxd.errors import DriverFault

_SUBSYSTEM, _PACKET, _CONFIG = 4, 0, 1
_CFG_CMD, _CFG_MODE, _CFG_TIMEOUT = 1, 2, 4
_BIND = 1
_COPY_PACKET = 2
_COPIED = 128
_DELAY = 1
"""Hundredths of a second that the kernel may keep reports back, to send several at once."""
_PAYLOAD, _PREFIX = 9, 10
_HEAD = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ACK, _REQUEST = 4, 1


class Report(Struct, frozen=True):
    prefix: str
    source: str
    target: str
    protocol: str
    """`tcp`, `udp`, or the number."""
    port: int


def bound(group: int) -> socket.socket:
    """A socket that gets the reports of one NFLOG group, of the calling thread's namespace.

    Raises DriverFault.
    """
    line = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 12)
    try:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        line.bind((0, 0))
        command = struct.pack("=B3x", _BIND)
        mode = struct.pack("!IBx", _COPIED, _COPY_PACKET)
        timeout = struct.pack("!I", _DELAY)
        for kind, value in ((_CFG_CMD, command), (_CFG_MODE, mode), (_CFG_TIMEOUT, timeout)):
            line.send(_config(group, kind, value))
    except OSError as error:
        line.close()
        raise DriverFault("network", "listen to the firewall", str(error)) from error
    return line


def _config(group: int, kind: int, value: bytes) -> bytes:
    attribute = _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)
    body = struct.pack("!BBH", 0, 0, group) + attribute
    size = _HEAD.size + len(body)
    return _HEAD.pack(size, _SUBSYSTEM << 8 | _CONFIG, _REQUEST, 0, 0) + body


def reports(data: bytes) -> list[Report]:
    """The reports in one datagram of the socket; what is malformed is passed over."""
    found = []
    while len(data) >= _HEAD.size:
        size, kind, *_ = _HEAD.unpack_from(data)
        if size < _HEAD.size or size > len(data):
            break
        if kind == _SUBSYSTEM << 8 | _PACKET:
            report = _report(data[_HEAD.size + 4 : size])
            if report is not None:
                found.append(report)
        data = data[size + -size % 4 :]
    return found


def _report(attributes: bytes) -> Report | None:
    prefix, payload = "", b""
    while len(attributes) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(attributes)
        if size < _ATTRIBUTE.size or size > len(attributes):
            break
        value = attributes[_ATTRIBUTE.size : size]
        if kind & 0x3FFF == _PREFIX:
            prefix = value.rstrip(b"\0").decode("ascii", "replace")
        elif kind & 0x3FFF == _PAYLOAD:
            payload = value
        attributes = attributes[size + -size % 4 :]
    return packet(prefix, payload)


def packet(prefix: str, data: bytes) -> Report | None:
    """What the head of an IP packet says, or None if it is none."""
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= 20:
        start, protocol = (data[0] & 15) * 4, data[9]
        source, target = data[12:16], data[16:20]
    elif version == 6 and len(data) >= 40:
        start, protocol = 40, data[6]
        source, target = data[8:24], data[24:40]
    else:
        return None
    port = 0
    if protocol in (6, 17) and len(data) >= start + 4:
        (port,) = struct.unpack_from("!H", data, start + 2)
    name = {6: "tcp", 17: "udp"}.get(protocol, str(protocol))
    addresses = [str(ipaddress.ip_address(raw)) for raw in (source, target)]
    return Report(prefix, addresses[0], addresses[1], name, port)
