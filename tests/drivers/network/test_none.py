"""A network namespace that was used in any way serves nobody else; one that was not, does."""

import ctypes
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from sandboxd.drivers.network.none import Empty, NoNetwork

_CLONE_NEWNET = 0x4000_0000
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def network() -> Iterator[NoNetwork]:
    network = NoNetwork()
    yield network
    network.close()


def inside(slot: Empty, deed: Callable[[], object]) -> None:
    """In a thread that lives in the namespace and dies with its deed."""

    def work() -> None:
        assert _libc.setns(slot.fd, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        deed()

    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    assert failed == []


def number(slot: Empty) -> int:
    return os.fstat(slot.fd).st_ino


def test_an_unused_one_serves_again(network: NoNetwork) -> None:
    numbers = set()
    for _ in range(5):
        slot = network.take()
        numbers.add(number(slot))
        network.give_back(slot)
    assert len(numbers) == 1
    assert network.made == 1


def test_it_has_a_loopback_that_is_up_and_nothing_else(network: NoNetwork) -> None:
    def look() -> None:
        assert [name for _, name in socket.if_nameindex()] == ["lo"]
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=5).close()

    slot = network.take()
    inside(slot, look)
    network.give_back(slot)


def _stream() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()


def _datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"", ("127.0.0.1", 9))


def _refused() -> None:
    with socket.socket() as sender, pytest.raises(ConnectionRefusedError):
        sender.connect(("127.0.0.1", 1))


def _no_route() -> None:
    with socket.socket() as sender, pytest.raises(OSError, match="unreachable"):
        sender.connect(("192.0.2.1", 1))


def _no_route_of_six() -> None:
    with socket.socket(socket.AF_INET6) as sender, pytest.raises(OSError, match="unreachable"):
        sender.connect(("2001:db8::1", 1))


def _flow_label() -> None:
    """One that outlives its socket by half a minute."""
    ask = bytes(15) + b"\1" + struct.pack("!I", 0x12345) + struct.pack("=BBHHHI", 0, 1, 1, 30, 0, 0)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as label:
        label.setsockopt(socket.IPPROTO_IPV6, 32, ask.ljust(32, b"\0"))


@pytest.mark.parametrize(
    "deed", [_stream, _datagram, _refused, _no_route, _no_route_of_six, _flow_label]
)
def test_a_used_one_serves_nobody_else(network: NoNetwork, deed: Callable[[], None]) -> None:
    slot = network.take()
    inside(slot, deed)
    before = number(slot)
    network.give_back(slot)
    assert number(network.take()) != before
    assert network.made == 2


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_one_that_still_holds_a_socket_serves_nobody_else(
    network: NoNetwork, family: socket.AddressFamily
) -> None:
    kept: list[socket.socket] = []
    slot = network.take()
    inside(slot, lambda: kept.append(socket.socket(family, socket.SOCK_DGRAM)))
    network.give_back(slot)
    network.take()
    assert network.made == 2
    kept.pop().close()


def test_sockets_that_left_no_mark_are_no_use(network: NoNetwork) -> None:
    slot = network.take()
    inside(slot, lambda: socket.create_server(("127.0.0.1", 0)).close())
    network.give_back(slot)
    network.take()
    assert network.made == 1


def test_what_the_rest_of_the_host_does_is_no_use(network: NoNetwork) -> None:
    slot = network.take()
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=5),
    ):
        network.give_back(slot)
    network.take()
    assert network.made == 1


def test_each_is_renewed_in_time(network: NoNetwork) -> None:
    slot = network.take()
    slot.uses = 10**6
    network.give_back(slot)
    network.take()
    assert network.made == 2
