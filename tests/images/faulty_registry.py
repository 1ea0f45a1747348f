"""A registry that fails in chosen ways: breaks off bodies, is busy, wants tokens, gives other bytes."""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FaultyRegistry:
    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.requests: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.busy = 0
        """Answers 503 that many times."""
        self.break_after = 0
        """Bytes after which each blob's body is broken off; 0: never."""
        self.ranged = True
        self.token = ""
        """Wanted as a bearer; given at /token for the right password."""
        self.swap: bytes | None = None
        """Given in place of every blob."""
        self.address = ""

    def add(self, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return digest


@contextmanager
def faulty_registry() -> Iterator[FaultyRegistry]:
    registry = FaultyRegistry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            _serve(registry, self)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _serve(registry: FaultyRegistry, request: BaseHTTPRequestHandler) -> None:
    path, _, query = request.path.partition("?")
    registry.requests[path.split("/")[-2] if path != "/token" else "token"] += 1
    if path == "/token":
        right = request.headers.get("Authorization") == "Basic dXNlcjpzZWNyZXQ="
        body = json.dumps({"token": registry.token if right and "scope=" in query else "no"})
        return _answer(request, 200, body.encode())
    if registry.busy:
        registry.busy -= 1
        return _answer(request, 503, b"", {"Retry-After": "0"})
    if registry.token and request.headers.get("Authorization") != f"Bearer {registry.token}":
        challenge = f'Bearer realm="http://{registry.address}/token",service="test",scope="x"'
        return _answer(request, 401, b"", {"WWW-Authenticate": challenge})
    kind, reference = path.split("/")[-2:]
    if kind == "manifests" and reference in registry.manifests:
        media_type, data = registry.manifests[reference]
        return _answer(request, 200, data, {"Content-Type": media_type})
    if kind == "blobs" and reference in registry.blobs:
        return _blob(registry, request, registry.swap or registry.blobs[reference])
    return _answer(request, 404, b"")


def _blob(registry: FaultyRegistry, request: BaseHTTPRequestHandler, data: bytes) -> None:
    given = request.headers.get("Range", "")
    begin = 0
    if given:
        registry.ranges.append(given)
        if registry.ranged:
            begin = int(given.removeprefix("bytes=").rstrip("-"))
    data = data[begin:]
    status = 206 if begin else 200
    if registry.break_after and len(data) > registry.break_after:
        request.send_response(status)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data[: registry.break_after])
        request.close_connection = True
        if not registry.ranged:
            registry.break_after *= 2
        return
    _answer(request, status, data)


def _answer(
    request: BaseHTTPRequestHandler,
    status: int,
    data: bytes,
    headers: dict[str, str] | None = None,
) -> None:
    request.send_response(status)
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(data)
