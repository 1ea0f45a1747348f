"""Webhooks: signed, tried again after a failure, and never to an address of one's own network."""

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from sandboxd.gateway.courier import delivery
from sandboxd.gateway.courier.delivery import Courier, Refused, resolve
from sandboxd.gateway.courier.messages import Message
from sandboxd.gateway.courier.signing import signed
from sandboxd.settings import JudgeSettings, Settings
from tests.service.instance import running

SECRET = "whsec_" + base64.b64encode(b"a secret of some length").decode()


class Receiver:
    """Answers 500 to the first delivery and 204 to the second."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.done = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append((dict(self.headers), body))
                self.send_response(500 if len(receiver.got) == 1 else 204)
                self.end_headers()
                if len(receiver.got) == 2:
                    receiver.done.set()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?x=1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def test_a_result_is_delivered_signed_and_again_after_a_failure():
    """Whether its client waits for it or not."""
    receivers = {200: Receiver(), 202: Receiver()}
    try:
        with running("judge.callback_private=true") as service:
            ids = {
                status: _submitted(service, receiver, status)
                for status, receiver in receivers.items()
            }
            assert all(receiver.done.wait(45) for receiver in receivers.values())
    finally:
        for receiver in receivers.values():
            receiver.server.shutdown()
            receiver.server.server_close()
    for status, receiver in receivers.items():
        (_, first), (headers, second) = receiver.got
        assert first == second
        assert json.loads(second)["data"]["verdict"] == "AC"
        assert headers["webhook-id"] == ids[status]
        text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + second
        digest = hmac.new(b"a secret of some length", text, hashlib.sha256).digest()
        assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


def _submitted(service, receiver, status):
    body = {
        "language": "bash", "source": "cat", "cases": [{"input": "a", "answer": "a"}],
        "callback": {"url": receiver.url, "secret": SECRET},
    }  # fmt: skip
    headers = {"Prefer": "respond-async"} if status == 202 else {}
    answer = httpx.post(f"{service.url}/v1/submissions", json=body, headers=headers, timeout=30)
    assert answer.status_code == status, answer.text
    return answer.json()["id"]


def test_the_courier_of_a_service_is_confined(service):
    pid = service.role("courier")
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines)
    settings = Settings()
    assert set(status["Uid"].split()) == {str(settings.courier.uid)}
    assert set(status["Gid"].split()) == {str(settings.gateway.uid)}
    assert status["Groups"].split() == []
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"], status["Seccomp_filters"]) == ("1", "2", "2")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "10.1.2.3", "169.254.169.254", "0.0.0.0", "::1", "224.0.0.1",
             "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
)  # fmt: skip
async def test_private_addresses_are_refused(host):
    with pytest.raises(Refused):
        await resolve(host, 80, private=False)
    if host != "224.0.0.1":
        assert await resolve(host, 80, private=True)


async def test_one_private_address_among_public_ones_refuses_the_name(monkeypatch):
    """A name that answers with both would be tried until the private one is connected to."""
    _names(monkeypatch, {"both.example": ["8.8.8.8", "10.0.0.1"], "fine.example": ["8.8.8.8"]})
    assert await resolve("fine.example", 80, private=False) == "8.8.8.8"
    with pytest.raises(Refused, match=r"10\.0\.0\.1"):
        await resolve("both.example", 80, private=False)


async def test_name_that_turns_private_after_the_look_is_not_called_again(monkeypatch):
    """DNS rebinding: the connection goes to the address that was looked at, by one look-up."""
    asked = _names(monkeypatch, {"turns.example": ["127.0.0.1"]}, first="8.8.8.8")
    called: list[str] = []

    class Transport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            called.append(str(request.url))
            assert request.headers["host"] == "turns.example:81"
            return httpx.Response(302, headers={"location": "http://127.0.0.1/"})

    client = httpx.AsyncClient
    monkeypatch.setattr(
        delivery.httpx, "AsyncClient", lambda **options: client(transport=Transport(), **options)
    )
    courier = Courier(None, None, JudgeSettings())
    # Nor is the redirection followed: it is an answer that is no success.
    message = Message(method="POST", headers={}, body=b"{}", timeout=5.0, tries=1)
    assert not await courier._send("http://turns.example:81/x", message)
    assert called == ["http://8.8.8.8:81/x"]
    assert asked == ["turns.example"]


def _names(monkeypatch, table, first=None):
    asked: list[str] = []

    async def look_up(self, host, port, **_):
        asked.append(host)
        found = [first] if first and len(asked) == 1 else table[host]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port)) for text in found]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", look_up)
    return asked


def test_without_a_secret_there_is_no_signature():
    assert "webhook-signature" not in signed(None, "id", 0, b"")
