"""The wall between tenants, on every route there is: what is Bob's is not there for Ann.

The routes are taken from the application itself. One that names an object has to be in NAMED, with a way
to make one; any other in NAMELESS: a new route fails here until somebody has decided.
"""

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from sandboxd.errors import NotFound
from sandboxd.gateway import adapters
from sandboxd.gateway.app import build_app
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.ids import new_problem_id, new_run_id, new_submission_id
from sandboxd.gateway.sessions.names import new_process_id, new_sandbox_id
from sandboxd.model.session import Entry, Sandbox, SandboxState, SessionLimits
from sandboxd.model.stored import TemplateRequest
from sandboxd.settings import Settings
from tests.gateway.fakes import FakeNode

ANN, BOB = ({"Authorization": f"Bearer {key}"} for key in ("ka", "kb"))
ASYNC = {"Prefer": "respond-async"}
RUN = {"language": "python", "source": "print(1)"}
CASES = [{"input": "a", "answer": "a"}]
JUDGE0, GO_JUDGE, PISTON = (f"/compat/{name}" for name in ("judge0", "go_judge", "piston"))
E2B = "/compat/e2b/"
_AT = "2030-01-01T00:00:00.000Z"
_HANDSHAKE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip


ONE = "/v1/sandboxes/{id}"
OF_SANDBOXES: dict[str, tuple[str, dict[str, Any] | None]] = {
    "": ("", {}),
    **{f"/{verb}": ("", {}) for verb in ("extend", "pause", "resume", "snapshot", "fork")},
    "/metrics": ("", None),
    "/metrics/history": ("", None),
    "/metrics/stream": ("", None),
    "/contexts": ("", {}),
    "/contexts/{context}": ("", None),
    "/contexts/{context}/run": ("", {"code": "1"}),
    "/contexts/{context}/restart": ("", {}),
    "/contexts/{context}/interrupt": ("", {}),
    "/events": ("", None),
    "/network": ("", None),
    "/exec": ("", {"command": ["true"]}),
    "/processes": ("", {"command": ["true"]}),
    "/processes/{process}": ("", None),
    "/processes/{process}/output": ("", None),
    "/processes/{process}/signal": ("", {"signal": 9}),
    "/processes/{process}/stdin": ("", {"data": "x"}),
    "/processes/{process}/resize": ("", {"rows": 2, "cols": 2}),
    "/processes/{process}/stream": ("", None),
    "/ports/{port:int}": ("", None),
    "/ports/{port:int}/{rest:path}": ("", None),
    **{
        f"/files{rest}": ("?path=/work/x", None)
        for rest in ("", "/stat", "/content", "/archive", "/watch")
    },
    "/files/batch": ("", {"files": [{"path": "/work/x", "text": "y"}]}),
    "/files/directory": ("", {"path": "/work/x"}),
    "/files/move": ("", {"source": "/work/x", "target": "/work/y"}),
    "/files/mode": ("", {"path": "/work/x", "mode": 420}),
    "/files/sign": ("", {"path": "/work/x"}),
}
"""What follows a sandbox's id -> the query and the body that a good request has."""
PROCESS = "prc_" + "a" * 26


class Bob:
    """What one tenant has: an id of each kind, all of them before another one looks."""

    def __init__(self, wire: httpx.AsyncClient, gateway: Gateway) -> None:
        self._wire, self._gateway = wire, gateway
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
        sandbox = new_sandbox_id()
        # Its node does not answer, which its owner is told and nobody else.
        entry = Entry(
            tenant="bob", address="unix:/nowhere/agent.sock",
            sandbox=Sandbox(
                id=sandbox, state=SandboxState.RUNNING, template="session", image="host",
                limits=SessionLimits(), network="none", node="n1", isolation=[], created_at=_AT,
                expires_at=_AT, timeout=60.0, on_timeout="kill", metadata={"whose": "bob"},
            ),
        )  # fmt: skip
        assert await self._gateway.sandboxes.directory.add(entry)
        self.ids = {
            "sandbox": sandbox, "run": run["id"], "submission": submission["id"],
            "problem": problem["id"], "token": token["token"], "file": file.json(),
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
    **dict.fromkeys((f"{ONE}{rest}" for rest in OF_SANDBOXES), "sandbox"),
    f"{JUDGE0}/submissions/{{token}}": "token",
    f"{GO_JUDGE}/file/{{id}}": "file",
}
"""Path of a route -> what its parameter names."""
BY_NAME = {
    "/v1/images/{name:path}", "/v1/volumes/{name}", "/v1/templates/{name}",
}  # fmt: skip
"""Names that each tenant has for itself, so that none is another's: the test below looks at whose the
gateway says they are."""
MAKES = {
    *(f"/v1/images{rest}" for rest in ("", "/build", "/import", "/export", "/pull", "/push", "/tag")),
    "/v1/volumes", "/v1/templates", "/v1/sandboxes", "/v1/sandboxes/events",
    "/v1/runs", "/v1/submissions", "/v1/problems", "/v1/files", f"{JUDGE0}/submissions",
    f"{JUDGE0}/submissions/batch", f"{PISTON}/api/v2/execute", f"{PISTON}/api/v2/connect",
    f"{GO_JUDGE}/run", f"{GO_JUDGE}/ws", f"{GO_JUDGE}/stream", f"{GO_JUDGE}/file",
    "/compat/sandboxfusion/run_code",
}  # fmt: skip
"""Made by the caller, or listed: the tests below look at what they may refer to and list."""
SIGNED = {"/v1/signed/{token}", "/v1/ports/{token}/{rest:path}"}
"""For whoever has the token, which names tenant and sandbox and is not to be made up."""
PUBLIC = {
    "/v1/languages", "/healthz", "/readyz", "/metrics", "/openapi.json",
    *(f"{JUDGE0}/{name}" for name in (
        "languages", "languages/all", "languages/{id:int}", "statuses", "config_info", "system_info",
        "workers", "statistics", "about", "version", "license", "isolate", "authenticate", "authorize",
    )),
    f"{PISTON}/api/v2/runtimes", f"{PISTON}/api/v2/packages", f"{GO_JUDGE}/version",
    f"{GO_JUDGE}/metrics", f"{GO_JUDGE}/config", "/compat/sandboxfusion/v1/ping",
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
            yield prefix + route.path, set(route.methods or ("GET", "POST"))


def write_keys(path: Path) -> str:
    """Of Ann and Bob."""
    lines = [f"{who}:{hashlib.sha256(key.encode()).hexdigest()}" for who, key in (
        ("ann", "ka"), ("bob", "kb"))]  # fmt: skip
    path.write_text("\n".join(lines))
    return str(path)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The client is in this process: a moment's stall is not a head that does not come."""
    return replace(settings, gateway=replace(settings.gateway, header_timeout=60, idle_timeout=60))


@pytest.fixture
def keys_file(tmp_path: Path) -> str:
    return write_keys(tmp_path / "keys")


@pytest.fixture
async def bob(wire: httpx.AsyncClient, gateway: Gateway, node: FakeNode) -> Bob:
    node.gate.clear()  # Bob's jobs are under way while Ann looks
    found = Bob(wire, gateway)
    await found.settle()
    return found


async def test_every_route_is_known_here(gateway: Gateway) -> None:
    paths = {path for path, _ in routes(build_app(gateway).routes)}
    paths = {path for path in paths if not path.startswith(E2B)}  # they have test_walls_e2b
    assert paths == {*NAMED, *BY_NAME, *MAKES, *PUBLIC, *SIGNED}


async def test_without_a_key_nothing_is_told_on_any_route(
    gateway: Gateway, wire: httpx.AsyncClient
) -> None:
    """But what is open to everybody, and here to this machine; what is signed is absent."""
    local = {"/healthz", "/openapi.json", "/readyz", "/metrics"} | adapters.OPEN
    told: dict[str, set[int]] = {}
    for path, methods in routes(build_app(gateway).routes):
        place = re.sub(r"\{\w+(:\w+)?\}", "1", path)
        for method in methods - {"WebSocket"}:
            told.setdefault(path, set()).add(await _status(wire, method, place, {}))
        if "WebSocket" in methods:
            told.setdefault(path, set()).add(await _status(wire, "GET", place, _HANDSHAKE))
    absent = SIGNED | {f"{E2B}uploads/{{ticket}}"}
    expected = {
        path: {200} if path in local else {404} if path in absent else {401} for path in told
    }
    assert {path: codes for path, codes in told.items() if codes != expected[path]} == {
        "/readyz": {503}  # there is no node
    }


async def test_nothing_of_another_tenant_is_there_on_any_route(
    gateway: Gateway, wire: httpx.AsyncClient, bob: Bob
) -> None:
    tried = 0
    # The owner's turn comes last, since DELETE is among the methods.
    for headers, foreign in ((ANN, True), (BOB, False)):
        for path, methods in routes(build_app(gateway).routes):
            if path not in NAMED:
                continue
            place, body = request_of(path, bob)
            for method in sorted(methods - {"DELETE", "WebSocket"}) + sorted(methods & {"DELETE"}):
                code = await _status(wire, method, place, headers, body)
                assert (code == 404) == foreign, f"{method} {path}: {code}"
                tried += 1
            if "WebSocket" in methods:
                more = _HANDSHAKE if foreign else {**_HANDSHAKE, "Origin": "http://evil.example"}
                code = await _status(wire, "GET", place, headers | more)
                # Of its own, the owner is told of the origin.
                assert code == (404 if foreign else 403), f"WebSocket {path}: {code}"
                tried += 1
    assert tried > 2 * len(NAMED)


def request_of(path: str, bob: Bob) -> tuple[str, dict[str, Any] | None]:
    """The path and query of what is Bob's, and a body that is right."""
    place, query, body = path, "", None
    if path.startswith(ONE):
        query, body = OF_SANDBOXES[path.removeprefix(ONE)]
        place = (
            path.replace("{process}", PROCESS)
            .replace("{port:int}", "80")
            .replace("{context}", "ctx_python")
            .replace("{rest:path}", "x")
        )
    return re.sub(r"\{\w+\}", bob.ids[NAMED[path]], place) + query, body


async def _status(
    wire: httpx.AsyncClient,
    method: str,
    place: str,
    headers: dict[str, str],
    body: dict[str, Any] | None = None,
) -> int:
    """Of the head alone: some bodies do not end."""
    sent: dict[str, Any] = {}
    if method in ("POST", "PATCH"):
        sent = {"json": body or {}}
    elif method == "PUT":
        sent = {"content": b""}
    async with wire.stream(method, place, headers=headers, **sent) as answer:
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
    for path, name in (
        ("/v1/problems", bob.ids["problem"]),
        (f"{GO_JUDGE}/file", bob.ids["file"]),
        ("/v1/sandboxes", bob.ids["sandbox"]),
        ("/v1/sandboxes?metadata.whose=bob", bob.ids["sandbox"]),
    ):
        assert name not in (await wire.get(path, headers=ANN)).text
        assert name in (await wire.get(path, headers=BOB)).text


async def test_names_are_looked_up_as_the_callers_own(
    gateway: Gateway, wire: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def ask(call: Any, *_: object) -> None:
        asked.append(call.tenant)
        raise NotFound("there is no such name")

    monkeypatch.setattr(gateway.node, "ask", ask)
    await gateway.templates.put("bob", "mine", TemplateRequest(image="host"))
    for path, methods in routes(build_app(gateway).routes):
        if path in BY_NAME:
            place = path.partition("{")[0] + "mine"
            for method in sorted(methods & {"GET", "DELETE"}, reverse=True):
                assert await _status(wire, method, place, ANN) == 404, f"{method} {path}"
    assert len(asked) >= 3 and {*asked} == {"ann"}
    assert await _status(wire, "GET", "/v1/templates/mine", BOB) == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1.evil.example"])
async def test_every_web_socket_refuses_a_page_of_another_origin(
    gateway: Gateway, wire: httpx.AsyncClient, bob: Bob, origin: str
) -> None:
    sockets = [
        path
        for path, methods in routes(build_app(gateway).routes)
        if "WebSocket" in methods
        and path not in SIGNED  # no credential that a browser adds by itself
    ]
    assert len(sockets) >= 4
    for path in sockets:
        place = request_of(path, bob)[0] if path in NAMED else path
        headers = {**BOB, **_HANDSHAKE, "Origin": origin}
        assert await _status(wire, "GET", place, headers) == 403, path


async def test_what_is_guessed_is_as_absent_as_what_is_anothers(
    gateway: Gateway, wire: httpx.AsyncClient, bob: Bob
) -> None:
    """An answer that told the two apart would say which ids exist."""
    for path, methods in routes(build_app(gateway).routes):
        if path not in NAMED or "GET" not in methods:
            continue
        kind, (place, _) = NAMED[path], request_of(path, bob)
        other = bob.ids[kind][:-1] + ("a" if bob.ids[kind][-1] != "a" else "b")
        places = (place, place.replace(bob.ids[kind], other))
        answers = [await wire.get(each, headers=ANN) for each in places]
        assert answers[0].status_code == answers[1].status_code == 404
        told = [a.text.replace(bob.ids[kind], "ID").replace(other, "ID") for a in answers]
        assert told[0] == told[1]


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_ids_cannot_be_guessed() -> None:
    """At least 120 random bits, all of them different in every place."""
    for make in (new_run_id, new_submission_id, new_problem_id, new_sandbox_id, new_process_id):
        made = [make().partition("_")[2] for _ in range(500)]
        assert len({*made}) == 500 and {len(text) for text in made} == {26}
        for place in range(26):
            assert len({text[place] for text in made}) > 16
        assert len(base64.b32decode(made[0].upper() + "======")) == 16
