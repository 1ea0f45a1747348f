"""Reports of the firewall, as bytes."""

import socket
import struct

from hypothesis import given
from hypothesis import strategies as st

from sandboxd.drivers.network.nflog import Report, packet, reports


def message(prefix: bytes, payload: bytes) -> bytes:
    """As the kernel builds it: nfnetlink's head, then attributes on boundaries of four."""
    body = struct.pack("!BBH", 2, 0, 7)
    for kind, value in ((10, prefix + b"\0"), (9, payload)):
        body += struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
    head = struct.pack("=IHHII", 16 + len(body), 4 << 8, 0, 0, 0)
    return head + body + bytes(-len(body) % 4)


def ipv4(target: str, port: int) -> bytes:
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, bytes(4), socket.inet_aton(target)
    )
    return head + struct.pack("!HH", 1, port)


def test_several_reports_come_in_one_datagram() -> None:
    data = message(b"refused:floor", ipv4("10.1.2.3", 80)) + message(b"x", ipv4("10.1.2.4", 81))
    assert reports(data) == [
        Report("refused:floor", "0.0.0.0", "10.1.2.3", "tcp", 80),
        Report("x", "0.0.0.0", "10.1.2.4", "tcp", 81),
    ]


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail(data: bytes) -> None:
    reports(data)
    reports(message(b"p", data) + data)
    packet("p", b"\x45" + data)
    packet("p", b"\x60" + data)
