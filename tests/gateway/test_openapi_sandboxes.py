"""The document and the served application say the same of sandboxes, on one whose node is a fake."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from msgspec.structs import replace
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.specs.openapi.schemas import OpenApiSchema

from sandboxd.gateway.app import build_app
from sandboxd.gateway.auth import Keys
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.openapi import document
from sandboxd.gateway.server import Server, configure
from sandboxd.model import Template
from sandboxd.policy import Policies
from sandboxd.queue import Queue
from sandboxd.queue.sessions import Sessions
from sandboxd.settings import RedisSettings, Settings
from tests.gateway.fake_sessions import FakeSessions
from tests.gateway.fakes import FakeNode
from tests.gateway.schemathesis_config import CONFIG

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    negative_data_rejection,
]
ENDLESS = {"/v1/sandboxes/events", "/v1/sandboxes/{id}/events", "/v1/sandboxes/{id}/metrics/stream"}
STORED = ("volumes", "data", "image", "template")
"""What only a node's store could tell, of which there is none here."""
OPERATIONS = [
    (path, method)
    for path, methods in json.loads(document())["paths"].items()
    for method in methods
    if path.startswith(("/v1/sandboxes", "/v1/signed")) and path not in ENDLESS
]


class Serving(threading.Thread):
    """The gateway and fakes on a loop of their own: schemathesis is not asynchronous."""

    def __init__(self, settings: Settings, policies: Policies, path: Path) -> None:
        super().__init__(daemon=True)
        self._settings, self._policies, self._path = settings, policies, path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.ready = threading.Event()

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        queue, directory = Queue.connect(self._settings), Sessions(self._settings)
        node, agent = FakeNode(queue, self._path), FakeSessions(self._path, directory)
        await agent.start()
        await queue.announce(node.record(), ttl=600)
        gateway = Gateway(self._settings, self._policies, queue, Keys(""))
        async with gateway.running():
            config = configure(build_app(gateway), self._settings.gateway)
            self._server = Server(config, gateway.close)
            # Signals belong to the main thread.
            self._server.capture_signals = contextlib.nullcontext  # type: ignore[assignment]
            serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
            await self._server.listening.wait()
            self.ready.set()
            await serving
        await agent.stop()
        await queue.close()
        await directory.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._server.stop)
        self.join(20)


@pytest.fixture(scope="module")
def url(
    redis_url: str, policies: Policies, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    settings = Settings(instance=f"t{uuid4().hex[:12]}", redis=RedisSettings(url=redis_url))
    session = Template(name="session", cpus=1.0, session=True)
    policies = replace(policies, templates={**policies.templates, "session": session})
    serving = Serving(settings, policies, tmp_path_factory.mktemp("openapi") / "agent.sock")
    serving.start()
    assert serving.ready.wait(10)
    yield serving.url
    serving.stop()


@pytest.fixture(scope="module")
def described(url: str) -> OpenApiSchema:
    return schemathesis.openapi.from_url(f"{url}/openapi.json", config=CONFIG)


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url) as client:
        yield client


@pytest.fixture
def sandbox(client: httpx.Client) -> str:
    answer = client.post("/v1/sandboxes", json={})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture
def known(client: httpx.Client, sandbox: str) -> dict[str, str]:
    """Path parameters of what is there."""
    started = client.post(f"/v1/sandboxes/{sandbox}/processes", json={"command": ["x"]})
    context = client.post(f"/v1/sandboxes/{sandbox}/contexts", json={})
    signed = client.post(f"/v1/sandboxes/{sandbox}/files/sign", json={"path": "f"})
    token = signed.json()["url"].rpartition("/")[2]
    return {"id": sandbox, "port": "80", "process": started.json()["id"], "token": token,
            "context": context.json()["id"]}  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "path", "method"),
    [(GenerationMode.POSITIVE, *each) for each in OPERATIONS]
    + [(GenerationMode.NEGATIVE, *each) for each in OPERATIONS if each[1] in ("post", "patch")],
)
def test_answers_are_those_of_the_document(
    described: OpenApiSchema, known: dict[str, str], mode: GenerationMode, path: str, method: str
) -> None:
    @profile(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=described[path][method].as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        # Half of them about what is there: a made up id would only ever be absent.
        if len(str(case.query)) % 2 == 0 and mode is GenerationMode.POSITIVE:
            case.path_parameters = {name: known[name] for name in case.path_parameters or {}}
        if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
            for name in STORED:
                case.body.pop(name, None)
        case.call_and_validate(checks=CHECKS, timeout=20)

    check()


@pytest.mark.parametrize("path", sorted(ENDLESS))
def test_endless_streams_begin(client: httpx.Client, sandbox: str, path: str) -> None:
    with client.stream("GET", path.replace("{id}", sandbox)) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
    # HEAD is GET without the waiting.
    assert client.head(path.replace("{id}", sandbox), timeout=5).status_code == 200
