"""The OpenAPI document and the served application say the same."""

import asyncio
import contextlib
import json
import re
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
from schemathesis import Case, CheckContext, GenerationMode, Response, SerializationContext
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from schemathesis.specs.openapi.schemas import OpenApiSchema
from starlette.routing import Route

from sandboxd.gateway.app import build_app
from sandboxd.gateway.auth import Keys
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.openapi import document
from sandboxd.gateway.server import Server, configure
from sandboxd.policy import Policies
from sandboxd.queue import Queue
from sandboxd.settings import RedisSettings, Settings
from tests.gateway.fakes import FakeNode
from tests.gateway.schemathesis_config import CONFIG

RUN = {"language": "python", "source": "1"}


def no_server_error(context: CheckContext, response: Response, case: Case) -> bool | None:
    """But the one that says that this gateway has no node to ask of images and volumes."""
    if response.status_code == 503 and b"no node of this machine answers" in response.content:
        return None
    return not_a_server_error(context, response, case)


@schemathesis.serializer("application/x-tar", "application/gzip", "application/zstd")
def archive(context: SerializationContext, value: object) -> bytes:
    """Bytes as they come: whatever they are, they are refused by words of the document."""
    return value if isinstance(value, bytes) else str(value).encode()


CHECKS = [
    no_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    negative_data_rejection,
    allow_header_conformance,
    unsupported_method,
]


class Serving(threading.Thread):
    """The gateway and a fake node on a loop of their own: schemathesis is not asynchronous."""

    def __init__(self, settings: Settings, policies: Policies, agent: Path) -> None:
        super().__init__(daemon=True)
        self._settings, self._policies, self._agent = settings, policies, agent
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.ready = threading.Event()

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        queue, other = Queue.connect(self._settings), Queue.connect(self._settings)
        node = FakeNode(other, self._agent)
        working = asyncio.create_task(node.work())
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
        working.cancel()
        await asyncio.wait([working])
        await queue.close()
        await other.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._server.stop)
        self.join(20)


@pytest.fixture(scope="module")
def url(
    redis_url: str, policies: Policies, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    settings = Settings(instance=f"t{uuid4().hex[:12]}", redis=RedisSettings(url=redis_url))
    serving = Serving(settings, policies, tmp_path_factory.mktemp("openapi") / "agent.sock")
    serving.start()
    assert serving.ready.wait(10)
    yield serving.url
    serving.stop()


@pytest.fixture(scope="module")
def described(url: str) -> OpenApiSchema:
    return schemathesis.openapi.from_url(f"{url}/openapi.json", config=CONFIG)


OPERATIONS = [
    (path, method)
    for path, methods in json.loads(document())["paths"].items()
    for method in methods
    if not path.startswith(("/v1/sandboxes", "/v1/signed"))  # they have test_openapi_sandboxes
]
WITH_INPUT = [
    (path, method)
    for path, method in OPERATIONS
    if (path.startswith("/v1/runs") or method in ("post", "put"))
    and path != "/v1/files"  # any bytes are a file
]


# schemathesis' own pytest plugin does not know this pytest; its strategies need none.
@pytest.mark.parametrize(
    ("mode", "path", "method"),
    [(GenerationMode.POSITIVE, *operation) for operation in OPERATIONS]
    + [(GenerationMode.NEGATIVE, *operation) for operation in WITH_INPUT],
)
def test_answers_are_those_of_the_document(
    described: OpenApiSchema, mode: GenerationMode, path: str, method: str
) -> None:
    @profile(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=described[path][method].as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS)

    check()


def test_answers_about_a_real_run_are_those_of_the_document(
    described: OpenApiSchema, url: str
) -> None:
    for prefer, status in (("wait=10", 200), ("respond-async", 202)):
        operation = described["/v1/runs"]["POST"]
        case = operation.Case(body=RUN, headers={"Prefer": prefer}, media_type="application/json")
        answer = case.call_and_validate(checks=CHECKS[:-3])
        assert answer.status_code == status
        run = answer.json()["id"]
        for path, method in (("", "GET"), ("/events", "GET"), ("", "DELETE")):
            operation = described[f"/v1/runs/{{id}}{path}"][method]
            case = operation.Case(path_parameters={"id": run})
            assert case.call_and_validate(checks=CHECKS[:-3]).status_code == 200


def test_document_is_whole() -> None:
    tree = json.loads(document())
    assert tree["openapi"].startswith("3.1")
    operations = [op for path in tree["paths"].values() for op in path.values()]
    assert len({op["operationId"] for op in operations}) == len(operations)
    create = tree["paths"]["/v1/runs"]["post"]["responses"]
    assert set(create) == {
        "200", "202", "400", "401", "403", "408", "413", "415", "422", "429", "500", "503",
    }  # fmt: skip
    assert "Retry-After" in create["429"]["headers"]
    assert r"\Z" not in document().decode()


def test_every_route_of_ours_is_in_the_document(gateway: Gateway) -> None:
    """But the web sockets, of which OpenAPI has no words."""
    served = {
        (re.sub(r":[a-z]+}", "}", route.path), method.lower())
        for route in build_app(gateway).routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    tree = json.loads(document())
    told = {(path, method) for path, methods in tree["paths"].items() for method in methods}
    assert {(path, method) for path, method in served if method != "head"} == told


def test_document_is_served(url: str) -> None:
    assert httpx.get(f"{url}/openapi.json").content == document()
