"""What the kernel tells of connections that are over, as bytes."""

import socket
import struct

from hypothesis import given
from hypothesis import strategies as st

from sandboxd.drivers.network.flows import Flow, flows


def attribute(kind: int, value: bytes, nested: int = 0) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind | nested) + value + bytes(-len(value) % 4)


def ended(mark: int, port: int = 80) -> bytes:
    addresses = attribute(1, socket.inet_aton("10.1.0.2")) + attribute(
        2, socket.inet_aton("198.51.100.1")
    )
    ports = attribute(1, b"\6") + attribute(2, b"\1\1") + attribute(3, port.to_bytes(2, "big"))
    original = attribute(1, addresses, 0x8000) + attribute(2, ports, 0x8000)
    counters = [
        attribute(1, (1).to_bytes(8, "big")) + attribute(2, size.to_bytes(8, "big"))
        for size in (700, 90_000)
    ]
    body = b"\2\0\0\0" + attribute(1, original, 0x8000)
    body += attribute(8, mark.to_bytes(4, "big"))
    body += attribute(9, counters[0], 0x8000) + attribute(10, counters[1], 0x8000)
    return struct.pack("=IHHII", 16 + len(body), 1 << 8 | 2, 0, 0, 0) + body


def test_several_come_in_one_datagram_and_those_without_a_policys_mark_are_none() -> None:
    assert flows(ended(5) + ended(0, 81) + ended(1, 82)) == [
        Flow("10.1.0.2", "198.51.100.1", "tcp", port, 700, 90_000) for port in (80, 82)
    ]


@given(st.binary(max_size=200), st.integers(0, 150))
def test_no_bytes_make_the_reader_fail(data: bytes, at: int) -> None:
    flows(data)
    whole = ended(1)
    flows(whole[:at] + data + whole[at + len(data) :])
    flows(struct.pack("=IHHII", 20 + len(data), 1 << 8 | 2, 0, 0, 0) + bytes(4) + data)
