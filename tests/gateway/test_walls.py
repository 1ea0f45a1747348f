"""The wall between tenants, on every route there is: what is Bob's is not there for Ann.

The routes are taken from the application itself. One that names an object has to be in NAMED, with a way
to make one; any other in NAMELESS: a new route fails here until somebody has decided.
"""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from sandboxd.gateway.app import build_app
from sandboxd.gateway.context import Gateway
from tests.gateway.fakes import FakeNode

ANN, BOB = ({"Authorization": f"Bearer {key}"} for key in ("ka", "kb"))
ASYNC = {"Prefer": "respond-async"}
RUN = {"language": "python", "source": "print(1)"}
CASES = [{"input": "a", "answer": "a"}]
JUDGE0, GO_JUDGE, PISTON = (f"/compat/{name}" for name in ("judge0", "go_judge", "piston"))
_HANDSHAKE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip


class Bob:
    """What one tenant has: an id of each kind, all of them before another one looks."""

    def __init__(self, wire: httpx.AsyncClient) -> None:
        self._wire = wire
        self.ids: dict[str, str] = {}
        self.digest = ""

    async def settle(self) -> None:
        run = await self._made("/v1/runs", RUN, ASYNC)
        submission = await self._made("/v1/submissions", {**RUN, "cases": CASES}, ASYNC)
        problem = await self._made(
            "/v1/problems", {"title": "P", "cases": [{"input": "bob's input", "answer": "b"}]}
        )
        token = await self._made(f"{JUDGE0}/submissions", {"source_code": "1", "language_id": 71})
        stored = await self._wire.post("/v1/files", content=b"bob's file", headers=BOB)
        assert stored.status_code == 201, stored.text
        self.digest = stored.json()["digest"]
        file = await self._wire.post(
            f"{GO_JUDGE}/file", files={"file": ("f", b"bob's file")}, headers=BOB
        )
        self.ids = {
            "run": run["id"], "submission": submission["id"], "problem": problem["id"],
            "token": token["token"], "file": file.json(),
        }  # fmt: skip

    async def _made(
        self, path: str, body: dict[str, Any], more: dict[str, str] | None = None
    ) -> Any:
        answer = await self._wire.post(path, json=body, headers=BOB | (more or {}))
        assert answer.is_success, answer.text
        return answer.json()


NAMED = {
    "/v1/runs/{id}": "run",
    "/v1/runs/{id}/events": "run",
    "/v1/runs/{id}/stream": "run",
    "/v1/submissions/{id}": "submission",
    "/v1/submissions/{id}/events": "submission",
    "/v1/submissions/{id}/stream": "submission",
    "/v1/problems/{id}": "problem",
    f"{JUDGE0}/submissions/{{token}}": "token",
    f"{GO_JUDGE}/file/{{id}}": "file",
}
"""Path of a route -> what its parameter names."""
MAKES = {
    "/v1/runs", "/v1/submissions", "/v1/problems", "/v1/files", f"{JUDGE0}/submissions",
    f"{JUDGE0}/submissions/batch", f"{PISTON}/api/v2/execute", f"{PISTON}/api/v2/connect",
    f"{GO_JUDGE}/run", f"{GO_JUDGE}/ws", f"{GO_JUDGE}/file", "/compat/sandboxfusion/run_code",
}  # fmt: skip
"""Made by the caller, or listed: the tests below look at what they may refer to and list."""
PUBLIC = {
    "/v1/languages", "/healthz", "/readyz", "/metrics", "/openapi.json",
    *(f"{JUDGE0}/{name}" for name in (
        "languages", "languages/all", "languages/{id:int}", "statuses", "config_info", "system_info",
        "workers", "statistics", "about", "version", "license", "isolate", "authenticate", "authorize",
    )),
    f"{PISTON}/api/v2/runtimes", f"{PISTON}/api/v2/packages", f"{GO_JUDGE}/version",
    f"{GO_JUDGE}/config", "/compat/sandboxfusion/v1/ping",
}  # fmt: skip
"""The same for everybody: what the service is, nothing of anybody."""


def routes(found: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, set[str]]]:
    """Path and methods; those of a WebSocket are its name."""
    for route in found:
        if isinstance(route, Mount):
            yield from routes(list(route.routes), prefix + route.path)
        elif isinstance(route, WebSocketRoute):
            yield prefix + route.path, {"WebSocket"}
        else:
            assert isinstance(route, Route)
            yield prefix + route.path, set(route.methods or ())


@pytest.fixture
def keys_file(tmp_path: Path) -> str:
    path = tmp_path / "keys"
    lines = [f"{who}:{hashlib.sha256(key.encode()).hexdigest()}" for who, key in (
        ("ann", "ka"), ("bob", "kb"))]  # fmt: skip
    path.write_text("\n".join(lines))
    return str(path)


@pytest.fixture
async def bob(wire: httpx.AsyncClient, node: FakeNode) -> Bob:
    node.gate.clear()  # Bob's jobs are under way while Ann looks
    found = Bob(wire)
    await found.settle()
    return found


async def test_every_route_is_known_here(gateway: Gateway) -> None:
    paths = {path for path, _ in routes(build_app(gateway).routes)}
    assert paths == {*NAMED, *MAKES, *PUBLIC}


async def test_nothing_of_another_tenant_is_there_on_any_route(
    gateway: Gateway, wire: httpx.AsyncClient, bob: Bob
) -> None:
    tried = 0
    # The owner's turn comes last, since DELETE is among the methods.
    for headers, foreign in ((ANN, True), (BOB, False)):
        for path, methods in routes(build_app(gateway).routes):
            if path not in NAMED:
                continue
            before, _, rest = path.partition("{")
            place = before + bob.ids[NAMED[path]] + rest.partition("}")[2]
            for method in sorted(methods - {"DELETE", "WebSocket"}) + sorted(methods & {"DELETE"}):
                code = await _status(wire, method, place, headers)
                assert (code == 404) == foreign, f"{method} {path}: {code}"
                tried += 1
            if "WebSocket" in methods:
                more = _HANDSHAKE if foreign else {**_HANDSHAKE, "Origin": "http://evil.example"}
                code = await _status(wire, "GET", place, headers | more)
                # Of its own, the owner is told of the origin.
                assert code == (404 if foreign else 403), f"WebSocket {path}: {code}"
                tried += 1
    assert tried > 2 * len(NAMED)


async def _status(wire: httpx.AsyncClient, method: str, place: str, headers: dict[str, str]) -> int:
    """Of the head alone: some bodies do not end."""
    async with wire.stream(method, place, headers=headers) as answer:
        return answer.status_code


async def test_ids_in_queries_and_bodies_are_not_found_either(
    wire: httpx.AsyncClient, bob: Bob
) -> None:
    """Each of them is Bob's to use, so that the refusal is not for another reason."""
    batch = f"{JUDGE0}/submissions/batch?tokens={bob.ids['token']}"
    data = {"digest": bob.digest}
    of_problem = {"digest": _digest(b"bob's input"), "problem": bob.ids["problem"]}
    for headers, own in ((ANN, False), (BOB, True)):
        found = (await wire.get(batch, headers=headers)).json()["submissions"]
        assert (found != [None]) == own
        for body in (
            {**RUN, "problem": bob.ids["problem"]},
            {**RUN, "cases": [{"input": data, "answer": "a"}]},
            {**RUN, "cases": [{"input": of_problem, "answer": "a"}]},
        ):
            answer = await wire.post("/v1/submissions", json=body, headers=headers | ASYNC)
            assert (answer.status_code == 202) == own, answer.text
            assert own or answer.status_code in (404, 422), answer.text


async def test_a_file_id_of_another_is_not_run(
    wire: httpx.AsyncClient, bob: Bob, node: FakeNode
) -> None:
    node.gate.set()
    command = {"args": ["/bin/cat"], "copyIn": {"f": {"fileId": bob.ids["file"]}},
               "files": [{"content": ""}, {"name": "stdout", "max": 99}, {"name": "stderr", "max": 99}],
               "cpuLimit": 10**9, "memoryLimit": 1 << 26, "procLimit": 8}  # fmt: skip
    foreign = await wire.post(f"{GO_JUDGE}/run", json={"cmd": [command]}, headers=ANN)
    assert foreign.status_code == 400 and "does not exist" in foreign.text
    own = await wire.post(f"{GO_JUDGE}/run", json={"cmd": [command]}, headers=BOB)
    assert own.status_code == 200, own.text


async def test_lists_hold_nothing_of_another(wire: httpx.AsyncClient, bob: Bob) -> None:
    for path, name in (("/v1/problems", bob.ids["problem"]), (f"{GO_JUDGE}/file", bob.ids["file"])):
        assert name not in (await wire.get(path, headers=ANN)).text
        assert name in (await wire.get(path, headers=BOB)).text


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1.evil.example"])
async def test_every_web_socket_refuses_a_page_of_another_origin(
    gateway: Gateway, wire: httpx.AsyncClient, bob: Bob, origin: str
) -> None:
    sockets = [
        path for path, methods in routes(build_app(gateway).routes) if "WebSocket" in methods
    ]
    assert len(sockets) >= 4
    for path in sockets:
        before, brace, rest = path.partition("{")
        place = before + (bob.ids[NAMED[path]] + rest.partition("}")[2] if brace else "")
        headers = {**BOB, **_HANDSHAKE, "Origin": origin}
        assert await _status(wire, "GET", place, headers) == 403, path


async def test_what_is_guessed_is_as_absent_as_what_is_anothers(
    wire: httpx.AsyncClient, bob: Bob
) -> None:
    """An answer that told the two apart would say which ids exist."""
    for path, kind in NAMED.items():
        if path.endswith("/stream"):
            continue
        before, _, rest = path.partition("{")
        other = bob.ids[kind][:-1] + ("a" if bob.ids[kind][-1] != "a" else "b")
        answers = [
            await wire.get(before + name + rest.partition("}")[2], headers=ANN)
            for name in (bob.ids[kind], other)
        ]
        assert answers[0].status_code == answers[1].status_code == 404
        told = [a.text.replace(bob.ids[kind], "ID").replace(other, "ID") for a in answers]
        assert told[0] == told[1]


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_ids_cannot_be_guessed() -> None:
    """At least 120 random bits, all of them different in every place."""
    from sandboxd.gateway.ids import new_problem_id, new_run_id, new_submission_id

    for make in (new_run_id, new_submission_id, new_problem_id):
        made = [make().partition("_")[2] for _ in range(500)]
        assert len({*made}) == 500 and {len(text) for text in made} == {26}
        for place in range(26):
            assert len({text[place] for text in made}) > 16
        assert len(base64.b32decode(made[0].upper() + "======")) == 16
