"""What happens to sandboxes and runs is told where their owners want it, signed, until it is taken."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.sandboxes.conftest import WAIT, Tenant

pytestmark = [pytest.mark.root, pytest.mark.service]
SECRET = "a secret of some length"


class Receiver:
    """Refuses the first delivery of each message, takes the second."""

    def __init__(self) -> None:
        self.tried: set[str] = set()
        self.taken: dict[str, Any] = {}
        self._news = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                name = self.headers["webhook-id"]
                text = f"{name}.{self.headers['webhook-timestamp']}.".encode() + body
                digest = hmac.new(SECRET.encode(), text, hashlib.sha256).digest()
                signed = self.headers["webhook-signature"]
                again = name in receiver.tried
                receiver.tried.add(name)
                if again and signed == "v1," + base64.b64encode(digest).decode():
                    with receiver._news:
                        receiver.taken[name] = json.loads(body)
                        receiver._news.notify_all()
                self.send_response(204 if again else 503)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def of(self, subject: str, count: int) -> list[Any]:
        """The messages about a sandbox or run, as soon as there are so many, in the order of ids."""

        def found() -> list[Any]:
            return [self.taken[name] for name in sorted(self.taken) if name.startswith(subject)]

        with self._news:
            self._news.wait_for(lambda: len(found()) >= count, WAIT + 15)
            return found()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def test_events_are_told_signed_and_again_until_they_are_taken(
    ann: Tenant, receiver: Receiver
) -> None:
    callback = {"url": receiver.url, "secret": SECRET}
    told = ann.create(callback=callback)
    picky = ann.create(callback={**callback, "events": ["ended"]})
    child = ann.box(told.ok("POST", "/fork")["sandboxes"][0]["id"])
    told.ok("POST", "/pause")
    for box in (told, picky, child):
        box.kill()
    run = ann.http.post(
        "/v1/runs", json={"language": "bash", "source": "echo $((6*7))", "callback": callback}
    ).json()
    assert "callback" not in told.ok("GET"), "the secret is shown to nobody"

    messages = receiver.of(told.id, 4)
    assert [each["type"] for each in messages] == [
        "sandbox.created", "sandbox.forked", "sandbox.paused", "sandbox.ended",
    ]  # fmt: skip
    end = messages[-1]["data"]
    assert (end["sandbox"], end["data"], end["type"]) == (told.id, {"reason": "killed"}, "ended")
    events = told.ask("GET", "/events", headers={"Accept": "application/x-ndjson"}).text
    assert end in [json.loads(line) for line in events.splitlines() if line]
    assert [each["type"] for each in receiver.of(picky.id, 1)] == ["sandbox.ended"]
    assert [each["type"] for each in receiver.of(child.id, 2)] == [
        "sandbox.created", "sandbox.ended",
    ]  # fmt: skip
    (finished,) = receiver.of(run["id"], 1)
    assert finished == {"type": "run.finished", "data": run}
    assert run["stdout"] == "42\n"


@pytest.mark.parametrize(
    "url", ["ftp://example.org/", "http://user@example.org/", "nonsense", "http://[::1"]
)
def test_an_address_that_is_none_is_refused_before_anything_is_made(ann: Tenant, url: str) -> None:
    before = len(ann.http.get("/v1/sandboxes", params={"state": "running"}).json()["sandboxes"])
    body: dict[str, Any] = {"callback": {"url": url}}
    for path, more in (("/v1/sandboxes", {}), ("/v1/runs", {"language": "bash", "source": ":"})):
        answer = ann.http.post(path, json={**body, **more})
        assert (answer.status_code, answer.json()["field"]) == (422, "callback.url"), answer.text
    after = ann.http.get("/v1/sandboxes", params={"state": "running"}).json()["sandboxes"]
    assert len(after) == before


def test_an_address_that_never_answers_holds_up_nobody_else(ann: Tenant, bob: Tenant) -> None:
    receiver = Receiver()
    hanging = threading.Event()

    class Hangs(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hanging.wait(WAIT)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hangs)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        slow = {"url": f"http://127.0.0.1:{server.server_port}/"}
        box = bob.create(callback=slow)
        for _ in range(150):
            box.ok("POST", "/extend")
        box.kill()
        began = time.monotonic()
        box = ann.create(callback={"url": receiver.url, "secret": SECRET, "events": ["created"]})
        assert receiver.of(box.id, 1)
        assert time.monotonic() - began < WAIT, "it came while all the others hang"
        box.kill()
    finally:
        hanging.set()
        for each in (server, receiver.server):
            each.shutdown()
            each.server_close()
