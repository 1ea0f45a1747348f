"""A service with two tenants, and what tests ask of it: real sandboxes over HTTP and WebSocket."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from sandboxd_client import Client, Sandbox
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.patience import PATIENCE
from tests.service import host
from tests.service.instance import Service, running

KEYS = {"ann": "key-of-ann", "bob": "key-of-bob"}
WAIT = 20.0 * PATIENCE


@pytest.fixture(scope="session")
def served() -> Iterator[Service]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    directory = Path(tempfile.mkdtemp(prefix="sandboxd-keys-"))
    keys = directory / "keys"
    keys.write_text(
        "\n".join(f"{who}:{hashlib.sha256(key.encode()).hexdigest()}" for who, key in KEYS.items())
    )
    directory.chmod(0o755)
    keys.chmod(0o644)
    try:
        with running(
            f"gateway.keys_file={keys}", "judge.callback_private=true",
            "sessions.metrics_interval=0.5", "sessions.metrics_kept=20",
        ) as service:  # fmt: skip
            yield service
    finally:
        shutil.rmtree(directory)


class Tenant:
    """Somebody with a key."""

    def __init__(self, service: Service, who: str) -> None:
        self.service, self.key = service, KEYS[who]
        self.headers = {"Authorization": f"Bearer {self.key}"}
        self.http = httpx.Client(base_url=service.url, headers=self.headers, timeout=WAIT)

    def create(self, **body: Any) -> "Box":
        answer = self.http.post("/v1/sandboxes", json=body)
        assert answer.status_code in (200, 201), answer.text
        return Box(self, answer.json()["id"])

    def box(self, name: str) -> "Box":
        return Box(self, name)

    def socket(self, path: str, **headers: str) -> ClientConnection:
        return connect(
            self.service.url.replace("http", "ws", 1) + path,
            additional_headers={**self.headers, **headers}, compression=None, proxy=None,
            open_timeout=WAIT,
        )  # fmt: skip


class Box:
    """One of a tenant's sandboxes, or one that it tries to reach."""

    def __init__(self, tenant: Tenant, name: str) -> None:
        self.tenant, self.id = tenant, name
        self.path = f"/v1/sandboxes/{name}"

    def ask(self, method: str, rest: str = "", **more: Any) -> httpx.Response:
        return self.tenant.http.request(method, self.path + rest, **more)

    def ok(self, method: str, rest: str = "", **more: Any) -> Any:
        answer = self.ask(method, rest, **more)
        assert answer.is_success, answer.text
        kind = answer.headers.get("content-type", "")
        return answer.json() if kind == "application/json" else answer.content

    def run(self, *argv: str, **more: Any) -> Any:
        return self.ok("POST", "/exec", json={"command": list(argv), **more})

    def sh(self, script: str, **more: Any) -> str:
        result = self.run("/bin/sh", "-c", script, **more)
        assert result["process"]["exit_code"] == 0, result
        return str(result["stdout"])

    def start(self, *argv: str, **more: Any) -> str:
        made = self.ok("POST", "/processes", json={"command": list(argv), **more})
        return str(made["id"])

    def put(self, path: str, data: bytes, **query: Any) -> Any:
        return self.ok("PUT", "/files/content", params={"path": path, **query}, content=data)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.ask("GET", "/files/content", params={"path": path}, headers=headers)

    def code(self, method: str, rest: str = "", **more: Any) -> str:
        """The machine code of what must be an error."""
        answer = self.ask(method, rest, **more)
        assert not answer.is_success, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        return str(answer.json()["code"])

    @contextmanager
    def exec_socket(self, *argv: str, query: str = "", **more: Any) -> Iterator["Stream"]:
        with self.tenant.socket(f"{self.path}/exec{query}") as socket:
            socket.send(json.dumps({"command": list(argv), **more}))
            yield Stream(socket)

    @contextmanager
    def attach(self, process: str, query: str = "") -> Iterator["Stream"]:
        with self.tenant.socket(f"{self.path}/processes/{process}/stream{query}") as socket:
            yield Stream(socket)

    def kill(self) -> None:
        with suppress(httpx.HTTPError):
            self.ask("DELETE")


def resident(box: Box) -> int:
    """Bytes of memory of what stands between a client and its sandbox."""
    found = [box.tenant.service.role(role) for role in ("gateway", "node")]
    return sum(host.rss(pid) for pid in found if pid is not None)


class Stream:
    """A WebSocket of a process, read to some point."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.stdout = self.stderr = b""
        self.texts: list[dict[str, Any]] = []
        self.closed: int | None = None

    def step(self) -> bool:
        """One more message; False when the service has closed."""
        try:
            message = self.socket.recv(timeout=WAIT)
        except ConnectionClosed as closed:
            self.closed = closed.rcvd.code if closed.rcvd else None
            return False
        if isinstance(message, str):
            self.texts.append(json.loads(message))
        elif message[:1] == b"\x01":
            self.stdout += message[1:]
        else:
            assert message[:1] == b"\x02"
            self.stderr += message[1:]
        return True

    def until(self, text: bytes) -> None:
        while text not in self.stdout:
            assert self.step(), (self.stdout, self.texts)

    def to_end(self) -> dict[str, Any]:
        """The last text."""
        while self.step():
            pass
        return self.texts[-1]

    def say(self, data: bytes) -> None:
        self.socket.send(b"\x00" + data)

    def tell(self, **control: Any) -> None:
        self.socket.send(json.dumps(control))


@pytest.fixture(scope="session")
def ann(served: Service) -> Iterator[Tenant]:
    tenant = Tenant(served, "ann")
    yield tenant
    tenant.http.close()


@pytest.fixture(scope="session")
def bob(served: Service) -> Iterator[Tenant]:
    tenant = Tenant(served, "bob")
    yield tenant
    tenant.http.close()


@pytest.fixture(scope="module")
def box(ann: Tenant) -> Iterator[Box]:
    """A sandbox for the module's tests, which leave each other alone."""
    box = ann.create()
    yield box
    box.kill()


@pytest.fixture
def fresh(ann: Tenant) -> Iterator[Box]:
    box = ann.create()
    yield box
    box.kill()


@pytest.fixture(scope="session")
def client(served: Service) -> Iterator[Client]:
    with Client(served.url, KEYS["ann"]) as client:
        yield client


@pytest.fixture
def sandbox(client: Client) -> Iterator[Sandbox]:
    with Sandbox.create(client=client) as sandbox:
        yield sandbox
