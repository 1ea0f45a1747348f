"""Servers in a sandbox, reached through its own loopback."""

import json

import pytest
from sandboxd_client import RequestError, Sandbox, Timeout
from websockets.exceptions import InvalidStatus

from tests.sandboxes.conftest import Box, Tenant

pytestmark = [pytest.mark.root, pytest.mark.service]

_ECHO = """
import socket
server = socket.create_server(("127.0.0.1", 4000))
while True:
    line, _ = server.accept()
    while data := line.recv(65536):
        line.sendall(data.upper())
    line.close()
"""


def test_a_server_is_waited_for_and_spoken_to(sandbox: Sandbox) -> None:
    assert not sandbox.ports.open(4000)
    with pytest.raises(RequestError) as closed, sandbox.ports.connect(4000):
        pass
    assert closed.value.code == "port_closed"
    with pytest.raises(Timeout):
        sandbox.ports.wait(4000, 1.0)
    sandbox.process.start(["sh", "-c", 'sleep 0.3; exec python3 -c "$0"', _ECHO])
    sandbox.ports.wait(4000, 20)
    assert sandbox.ports.open(4000)
    data = b"x" * 300_000
    with sandbox.ports.connect(4000) as line:
        line.write(b"hello")
        assert line.read() == b"HELLO"
        line.write(data)
        got = b""
        while len(got) < len(data):
            got += line.read() or b""
        assert got == data.upper()
        line.close_write()
        assert line.read() is None


def test_what_is_no_message_ends_the_connection(box: Box) -> None:
    box.start("python3", "-c", _ECHO)
    assert box.ok("GET", "/ports/4000?wait=10") == {"port": 4000, "open": True}
    with box.tenant.socket(f"{box.path}/ports/4000") as socket:
        socket.send("hello")
        last = json.loads(socket.recv(timeout=10))
    assert last["problem"]["code"] == "invalid_request"
    for port in ("0", "65536", "http"):
        assert box.ask("GET", f"/ports/{port}").status_code == 404


def test_anothers_ports_are_not_there(box: Box, bob: Tenant) -> None:
    foreign = bob.box(box.id)
    assert foreign.code("GET", "/ports/4000") == "not_found"
    with pytest.raises(InvalidStatus) as refused:
        bob.socket(f"{box.path}/ports/4000")
    assert refused.value.response.status_code == 404
    with pytest.raises(InvalidStatus) as refused:
        box.tenant.socket(f"{box.path}/ports/4000", Origin="http://evil.example")
    assert refused.value.response.status_code == 403
