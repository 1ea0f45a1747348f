"""Servers in real sandboxes as web sites: over the API's paths, by links, by host names."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from socket import create_connection

import httpx
import pytest
from sandboxd_client import Client, Sandbox
from websockets.sync.client import connect

from tests.sandboxes.conftest import WAIT, Box
from tests.service.instance import Service, running

pytestmark = [pytest.mark.root, pytest.mark.service]

_SERVER = (Path(__file__).parent / "inside" / "web_server.py").read_text()
PORT = 8080


@pytest.fixture(scope="module")
def site(box: Box) -> Box:
    box.start("python3", "-c", _SERVER, str(PORT))
    assert box.ok("GET", f"/ports/{PORT}?wait=20")["open"]
    return box


def test_requests_answers_and_bodies_pass(site: Box) -> None:
    head = site.ask("GET", f"/ports/{PORT}/a/b?c=d", headers={"X-Mine": "1"}).json()
    assert head["line"] == "GET /a/b?c=d" and head["headers"]["x-mine"] == "1"
    assert "authorization" not in head["headers"]
    assert head["headers"]["x-forwarded-prefix"] == f"{site.path}/ports/{PORT}"
    body = bytes(range(256)) * 8192
    for content in (body, iter([body[:1000], body[1000:]])):  # of a known length, and chunked
        back = site.ask("POST", f"/ports/{PORT}/echo", content=content)
        assert back.content == body


def test_events_come_when_they_are_sent(site: Box) -> None:
    url = f"{site.path}/ports/{PORT}/events"
    with site.tenant.http.stream("GET", url) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        lines = answer.iter_lines()
        for number in range(3):
            assert next(line for line in lines if line) == f"data: {number}"
            # The server waits for this before it says the next.
            site.ok("POST", f"/ports/{PORT}/next")


def test_a_websocket_passes(site: Box) -> None:
    with site.tenant.socket(f"{site.path}/ports/{PORT}/socket") as socket:
        for word in ("hello", "x" * 300_000):
            socket.send(word)
            assert socket.recv(timeout=WAIT) == word
        socket.send(b"\0\1")
        assert socket.recv(timeout=WAIT) == b"\0\1"


def test_a_link_needs_no_key_and_ends_with_its_sandbox(site: Box, sandbox: Sandbox) -> None:
    made = site.ok("POST", f"/ports/{PORT}", json={"expires_in": 60})
    base = site.tenant.service.url
    assert httpx.get(f"{base}{made['url']}x", trust_env=False).json()["line"] == "GET /x"
    sandbox.process.start(["python3", "-c", _SERVER, str(PORT)])
    sandbox.ports.wait(PORT, 20)
    link = sandbox.ports.link(PORT)
    assert httpx.get(link.url, trust_env=False).json()["line"] == "GET /"
    sandbox.kill()
    assert httpx.get(link.url, trust_env=False).status_code == 410


@pytest.fixture(scope="module")
def named() -> Iterator[Service]:
    with running("gateway.ports_url=http://localhost:7070") as service:
        yield service


def test_a_port_is_a_site_of_its_own(named: Service) -> None:
    port = httpx.URL(named.url).port
    with Client(named.url) as client, Sandbox.create(client=client) as sandbox:
        sandbox.process.start(["python3", "-c", _SERVER, str(PORT)])
        sandbox.ports.wait(PORT, 20)
        link = httpx.URL(sandbox.ports.link(PORT).url)
        host = link.host
        assert host == f"{PORT}-{sandbox.id.replace('_', '-')}.localhost"
        with httpx.Client(base_url=named.url, headers={"Host": host}, trust_env=False) as http:
            moved = http.get(link.raw_path.decode(), headers={"Accept": "text/html"})
            assert moved.status_code == 303
            assert moved.headers["location"] == f"http://{host}:7070/"
            told = http.get(
                "/there", headers={"Cookie": moved.headers["set-cookie"].partition(";")[0]}
            ).json()
        assert told["line"] == "GET /there" and told["headers"]["host"] == host
        assert "cookie" not in told["headers"]
        # Without keys, this machine is the credential, by a name that only means this machine.
        line = create_connection(("127.0.0.1", port or 0))
        with connect(f"ws://{host}/socket", sock=line, proxy=None) as socket:
            socket.send("hello")
            assert socket.recv(timeout=WAIT) == "hello"
        other = httpx.get(
            named.url, headers={"Host": host.replace(str(PORT), "81")}, trust_env=False
        )
        assert (other.status_code, other.json()["code"]) == (502, "port_closed")


def test_a_paused_sandbox_wakes_for_a_visitor(site: Box) -> None:
    site.ok("POST", "/pause")
    answers: list[httpx.Response] = []
    visit = threading.Thread(target=lambda: answers.append(site.ask("GET", f"/ports/{PORT}/awake")))
    visit.start()
    visit.join(WAIT)
    assert json.loads(answers[0].text)["line"] == "GET /awake"
    assert site.ok("GET")["state"] == "running"
