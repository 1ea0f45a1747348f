"""The wall between tenants where E2B's clients come in, which asks for keys and tokens itself.

The routes are taken from the adapter: one that names an object has to be in NAMED, any other in MAKES.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from starlette.routing import Route

from sandboxd.gateway.adapters.e2b.front import Front
from sandboxd.gateway.adapters.e2b.identity import access_token, shown
from sandboxd.gateway.adapters.e2b.signatures import PATH_MAX, Issued, signed
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.sessions.names import new_sandbox_id
from sandboxd.settings import Settings
from tests.gateway.fakes import FakeNode
from tests.gateway.test_walls import Bob, write_keys

E2B = "/compat/e2b"
ANN, BOB = {"X-API-KEY": "ka"}, {"X-API-KEY": "kb"}
ONE = "/sandboxes/{id}"
NAMED: dict[tuple[str, str], dict[str, Any] | None] = {
    ("GET", ONE): None,
    ("GET", f"{ONE}/metrics"): None,
    ("POST", f"{ONE}/connect"): {"timeout": 10},
    ("POST", f"/v2{ONE}/connect"): {"timeout": 10},
    ("POST", f"{ONE}/resume"): {"timeout": 10},
    ("POST", f"{ONE}/timeout"): {"timeout": 10},
    ("POST", f"{ONE}/refreshes"): {"duration": 10},
    ("POST", f"{ONE}/pause"): {},
    ("POST", f"{ONE}/fork"): {},
    ("POST", f"{ONE}/snapshots"): {},
    ("PUT", f"{ONE}/network"): {},
    ("DELETE", ONE): None,
}
"""What names a sandbox, with a good body."""
MAKES = {
    *(("POST", path) for path in (
        "/sandboxes", "/v2/sandboxes", "/v2/templates", "/v3/templates", "/templates/tags",
        "/v2/templates/{id:path}/builds/{build}", "/volumes",
    )),
    *(("GET", path) for path in (
        "/sandboxes", "/v2/sandboxes", "/sandboxes/metrics", "/snapshots", "/templates",
        "/v2/templates", "/templates/aliases/{alias:path}", "/templates/{id:path}/tags",
        "/templates/{id:path}/files/{hash}", "/templates/{id:path}/builds/{build}/status", "/volumes",
        "/volumes/{name}",
    )),
    *(("DELETE", path) for path in ("/templates/tags", "/templates/{id:path}", "/volumes/{name}")),
}  # fmt: skip
"""Made by the caller, listed, or looked up among its own names."""
OPEN = {("PUT", "/uploads/{ticket}"), ("GET", "/health")}
"""For whoever has the ticket; and the same for everybody."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The client is in this process: a moment's stall is not a head that does not come."""
    return replace(settings, gateway=replace(settings.gateway, header_timeout=60, idle_timeout=60))


@pytest.fixture
def keys_file(tmp_path: Path) -> str:
    return write_keys(tmp_path / "keys")


@pytest.fixture
async def bob(wire: httpx.AsyncClient, gateway: Gateway, node: FakeNode) -> Bob:
    node.gate.clear()
    found = Bob(wire, gateway)
    await found.settle()
    return found


def served(gateway: Gateway) -> set[tuple[str, str]]:
    return {
        (method, route.path)
        for route in Front(gateway).routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }


def place(path: str, sandbox: str) -> str:
    for name in ("{alias:path}", "{id:path}", "{hash}", "{build}", "{name}", "{ticket}"):
        path = path.replace(name, "x")
    return E2B + path.replace("{id}", sandbox)


async def test_every_route_is_known_here(gateway: Gateway) -> None:
    assert served(gateway) == {*NAMED} | MAKES | OPEN


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"X-API-KEY": ""}, {"X-API-KEY": "kc"}, {"Authorization": "Basic ka"},
        {"Authorization": "Bearer"}, {"X-Access-Token": "ka"},
    ],
)  # fmt: skip
async def test_without_a_valid_key_nothing_is_told_on_any_route(
    gateway: Gateway, wire: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    sandbox = shown(new_sandbox_id())
    for method, path in sorted(served(gateway) - OPEN):
        answer = await wire.request(method, place(path, sandbox), headers=headers, json={})
        assert answer.status_code == 401, f"{method} {path}: {answer.text}"
    made_up = await wire.put(f"{E2B}/uploads/x", content=b"x", headers=headers)
    assert made_up.status_code == 404, made_up.text


async def test_a_sandbox_of_another_is_not_there_on_any_route(
    wire: httpx.AsyncClient, bob: Bob
) -> None:
    sandbox = shown(bob.ids["sandbox"])
    for headers, foreign in ((ANN, True), (BOB, False)):
        for (method, path), body in NAMED.items():
            answer = await wire.request(
                method,
                place(path, sandbox),
                headers=headers,
                **({} if body is None else {"json": body}),
            )
            # The owner is told that its node does not answer, or of something else it cannot have.
            assert (answer.status_code == 404) == foreign, f"{method} {path}: {answer.text}"


async def test_lists_hold_nothing_of_another(wire: httpx.AsyncClient, bob: Bob) -> None:
    sandbox = shown(bob.ids["sandbox"])
    for path in ("/sandboxes", "/v2/sandboxes", f"/sandboxes/metrics?sandbox_ids={sandbox}"):
        answer = await wire.get(E2B + path, headers=ANN)
        assert answer.status_code == 200 and sandbox not in answer.text, answer.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/files?path=/work/x"), ("POST", "/files?path=/work/x"), ("GET", "/health"),
        ("GET", "/metrics"), ("GET", "/envs"), ("POST", "/process.Process/List"),
        ("POST", "/filesystem.Filesystem/ListDir"),
    ],
)  # fmt: skip
async def test_a_sandbox_opens_to_its_own_token_alone(
    gateway: Gateway, wire: httpx.AsyncClient, bob: Bob, method: str, path: str
) -> None:
    sandbox, other = bob.ids["sandbox"], new_sandbox_id()
    to_it = {"E2b-Sandbox-Id": shown(sandbox), "E2b-Sandbox-Port": "49983"}
    good = await access_token(gateway, "bob", sandbox)
    name, _, mark = good.partition(".")
    ann = base64.urlsafe_b64encode(b"ann").rstrip(b"=").decode()
    refused = [
        {}, {"X-Access-Token": ""}, {"X-Access-Token": f"{ann}.{mark}"}, {"X-Access-Token": name},
        {"X-Access-Token": await access_token(gateway, "bob", other)},
        {"X-Access-Token": good[:-2]}, {"X-API-KEY": "kb"}, {"Authorization": "Basic kb"},
    ]  # fmt: skip
    for headers in refused:
        answer = await wire.request(method, E2B + path, headers=to_it | headers, json={})
        assert answer.status_code == 401, f"{headers}: {answer.text}"
    # Ann's own token of Bob's sandbox is well signed, and she has no such sandbox.
    for headers, status in (
        ({"X-Access-Token": await access_token(gateway, "ann", sandbox)}, {404, 502}),
        ({"Authorization": "Bearer ka"}, {404, 502}),
    ):
        answer = await wire.request(method, E2B + path, headers=to_it | headers, json={})
        assert answer.status_code in status and "not found" in answer.text, answer.text


def test_who_guesses_signatures_makes_little_work() -> None:
    """Anybody may ask, so that what is asked for is short, and hashed once for all tokens."""
    issued = Issued()
    for number in range(20):
        issued.add("bob", f"sbx{number}", f"token{number}")
    digest = hashlib.sha256(b"/work/x:read:user:token7").digest()
    query = {
        "path": "/work/x",
        "username": "user",
        "signature": "v1_" + base64.b64encode(digest).decode().rstrip("="),
    }
    request = signed("GET", query)
    assert request is not None and issued.target(request, None).sandbox == "sbx7"
    assert issued.target(request, "sbx7").tenant == "bob"
    for bad in (
        query | {"path": "/work/y"}, query | {"username": "root"}, query | {"signature": "v1_"},
        query | {"signature": "v1_é"}, query | {"signature_expiration": "99999999999"},
    ):  # fmt: skip
        request = signed("GET", bad)
        assert request is not None
        with pytest.raises(Exception, match="invalid signature"):
            issued.target(request, None)
    with pytest.raises(Exception, match="invalid signature"):
        signed("GET", query | {"path": "x" * (PATH_MAX + 1)})
