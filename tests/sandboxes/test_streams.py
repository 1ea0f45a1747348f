"""Clients that are slow, silent or gone, and who is told of whom."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.sandboxes.conftest import WAIT, Box, Tenant, resident
from tests.service import host

pytestmark = [pytest.mark.root, pytest.mark.service]

MIB = 1 << 20


def raw(box: Box, request: str) -> socket.socket:
    """A connection on which a request was sent and nothing is read, with a small window."""
    found = urlsplit(box.tenant.service.url)
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    line.connect((found.hostname, found.port))
    line.sendall(request.encode())
    return line


def request(box: Box, method: str, path: str, *more: str) -> str:
    head = [f"{method} {box.path}{path} HTTP/1.1", "Host: x",
            f"Authorization: Bearer {box.tenant.key}", *more]  # fmt: skip
    return "\r\n".join(head) + "\r\n\r\n"


def test_a_reader_that_stops_holds_nothing_but_itself_up(box: Box) -> None:
    """Neither gateway nor node gathers what it does not take; others' streams go on."""
    box.sh("truncate -s 1G zeros")
    before = resident(box)
    body = json.dumps({"command": ["cat", "/dev/zero"], "timeout": 600})
    lines = [raw(box, request(box, "GET", "/files/content?path=zeros")) for _ in range(6)]
    lines += [
        raw(box, request(box, "POST", "/exec", "Accept: application/x-ndjson",
                         "Content-Type: application/json", f"Content-Length: {len(body)}") + body)
        for _ in range(4)
    ]  # fmt: skip
    try:
        time.sleep(1)
        assert resident(box) - before < 40 * MIB
        began = time.monotonic()
        assert box.sh("echo quick") == "quick\n"
        assert time.monotonic() - began < WAIT / 4
    finally:
        for line in lines:
            line.close()
    deadline = time.monotonic() + WAIT
    while any(p["state"] == "running" and p["command"][0] == "cat"
              for p in box.ok("GET", "/processes")["processes"]):  # fmt: skip
        assert time.monotonic() < deadline, "a client that is gone ends its command"
        time.sleep(0.1)


def test_a_flood_on_stdin_that_nobody_reads_is_not_kept(box: Box) -> None:
    before = resident(box)
    with box.exec_socket("sleep", "60", stdin=True, query="?on_disconnect=kill") as stream:
        stream.step()
        stream.socket.socket.settimeout(1.0)
        sent = 0
        with pytest.raises((TimeoutError, ConnectionClosed)):
            while sent < 512 * MIB:
                stream.socket.send(b"\0" + bytes(60_000))
                sent += 60_000
        assert sent < 64 * MIB and resident(box) - before < 32 * MIB


def test_an_upload_that_falls_silent_is_given_up(box: Box) -> None:
    """After `gateway.body_timeout`, which is 30 s: here only that its connection holds nobody up, and
    that its client's end undoes it."""
    head = request(box, "PUT", "/files/content?path=slow", "Content-Length: 1000000")
    with closing(raw(box, head + "x" * 1000)):
        time.sleep(0.3)
        assert box.code("GET", "/files/stat?path=slow") == "path_not_found"
    time.sleep(0.3)
    names = [each["path"] for each in box.ok("GET", "/files?path=.")["entries"]]
    assert not [name for name in names if ".sbx-" in name or "slow" in name]


def test_a_hundred_streams_at_once(ann: Tenant, box: Box) -> None:
    def one(n: int) -> str:
        with box.tenant.http.stream(
            "POST", f"{box.path}/exec", json={"command": ["echo", str(n)]},
            headers={"Accept": "application/x-ndjson"},
        ) as answer:  # fmt: skip
            documents = [json.loads(line) for line in answer.iter_lines() if line]
        return "".join(each.get("text", "") for each in documents)

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(one, range(100))) == [f"{n}\n" for n in range(100)]


def test_connections_to_the_node_are_used_again(box: Box) -> None:
    gateway = box.tenant.service.role("gateway")
    assert gateway is not None
    box.run("true")
    before = host.fds(gateway)
    for _ in range(30):
        box.run("true")
    assert host.fds(gateway) <= before + 2


SOCKETS = ("/exec", "/files/watch?path=.", "/processes/{process}/stream")
ROUTES = [
    ("GET", ""), ("PATCH", ""), ("POST", "/extend"), ("POST", "/pause"), ("POST", "/resume"),
    ("POST", "/snapshot"), ("POST", "/fork"), ("GET", "/metrics"), ("GET", "/metrics/stream"),
    ("GET", "/events"), ("POST", "/exec"), ("GET", "/processes"), ("POST", "/processes"),
    ("GET", "/processes/{process}"), ("GET", "/processes/{process}/output"),
    ("POST", "/processes/{process}/signal"), ("POST", "/processes/{process}/stdin"),
    ("POST", "/processes/{process}/resize"), ("GET", "/files?path=."), ("DELETE", "/files?path=f"),
    ("GET", "/files/stat?path=f"), ("GET", "/files/content?path=f"), ("HEAD", "/files/content?path=f"),
    ("PUT", "/files/content?path=f"), ("GET", "/files/archive?path=."),
    ("PUT", "/files/archive?path=."), ("POST", "/files/batch"), ("POST", "/files/directory"),
    ("POST", "/files/move"), ("POST", "/files/mode"), ("POST", "/files/sign"),
    ("GET", "/files/watch?path=."), ("DELETE", ""),
]  # fmt: skip
BODIES = {
    "/exec": {"command": ["true"]}, "/processes": {"command": ["true"]},
    "/processes/{process}/signal": {"signal": 9}, "/processes/{process}/resize": {"rows": 1},
    "/files/batch": {"files": []}, "/files/directory": {"path": "x"},
    "/files/move": {"source": "f", "target": "g"}, "/files/mode": {"path": "f", "mode": 0},
    "/files/sign": {"path": "f"},
}  # fmt: skip


def test_what_is_anothers_is_not_there_and_untouched(ann: Tenant, bob: Tenant) -> None:
    own = bob.create()
    own.put("f", b"bob's")
    process = own.start("sleep", "60")
    seen = bob.http.get(f"{own.path}").json()
    absent = ann.box(own.id[:-1] + ("a" if own.id[-1] != "a" else "b"))
    for method, rest in ROUTES:
        place = rest.replace("{process}", process)
        more = {"json": BODIES.get(rest, {})} if method in ("POST", "PATCH") else {}
        foreign = ann.box(own.id).ask(method, place, **more)
        guessed = absent.ask(method, place, **more)
        assert foreign.status_code == 404, (method, rest, foreign.text)
        assert foreign.text.replace(own.id, "") == guessed.text.replace(absent.id, "")
    for rest in SOCKETS:
        with pytest.raises(InvalidStatus) as refused:
            ann.socket(own.path + rest.replace("{process}", process))
        assert refused.value.response.status_code == 404
    assert own.id not in ann.http.get("/v1/sandboxes?limit=200").text
    assert bob.http.get(own.path).json() == seen
    assert own.get("f").content == b"bob's"
    assert own.ok("GET", f"/processes/{process}")["state"] == "running"
    own.kill()


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_a_page_of_another_origin_gets_no_socket(box: Box, origin: str) -> None:
    process = box.start("sleep", "60")
    for rest in SOCKETS:
        with pytest.raises(InvalidStatus) as refused:
            box.tenant.socket(box.path + rest.replace("{process}", process), Origin=origin)
        assert refused.value.response.status_code == 403
    box.ok("POST", f"/processes/{process}/signal", json={"signal": 9})


def test_without_a_key_there_is_nothing(box: Box) -> None:
    with httpx.Client(base_url=box.tenant.service.url) as nobody:
        for method, rest in ROUTES[:4]:
            assert nobody.request(method, box.path + rest).status_code == 401
