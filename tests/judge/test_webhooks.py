"""Webhooks: signed, tried again after a failure, and never to an address of one's own network."""

import base64
import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from sandboxd.gateway.courier.delivery import Refused, resolve, signed
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


@pytest.mark.parametrize("waits", [False, True])
def test_a_result_is_delivered_signed_and_again_after_a_failure(waits):
    receiver = Receiver()
    try:
        with running("judge.callback_private=true") as service:
            body = {
                "language": "bash", "source": "cat", "cases": [{"input": "a", "answer": "a"}],
                "callback": {"url": receiver.url, "secret": SECRET},
            }  # fmt: skip
            headers = {} if waits else {"Prefer": "respond-async"}
            url = f"{service.url}/v1/submissions"
            answer = httpx.post(url, json=body, headers=headers, timeout=30)
            assert answer.status_code == (200 if waits else 202), answer.text
            assert receiver.done.wait(45)
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()
    (_, first), (headers, second) = receiver.got
    assert first == second
    assert json.loads(second)["data"]["verdict"] == "AC"
    assert headers["webhook-id"] == answer.json()["id"]
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + second
    digest = hmac.new(b"a secret of some length", text, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "10.1.2.3", "169.254.169.254", "0.0.0.0", "::1", "224.0.0.1"]
)
async def test_private_addresses_are_refused(host):
    with pytest.raises(Refused):
        await resolve(host, 80, private=False)
    if host != "224.0.0.1":
        assert await resolve(host, 80, private=True)


def test_without_a_secret_there_is_no_signature():
    assert "webhook-signature" not in signed(None, "id", 0, b"")
