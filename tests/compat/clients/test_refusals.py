"""What E2B has and this service has not: each call is answered at once, with JSON that says so."""

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.compat.clients.conftest import KEY
from tests.patience import PATIENCE

pytestmark = [pytest.mark.root, pytest.mark.service]

UNKNOWN = "sbx-" + "a" * 26
CONTROL = [
    ("GET", "/secrets", None),
    ("POST", "/secrets", {"name": "a", "value": "b"}),
    ("GET", "/teams", None),
    ("GET", "/teams/t/metrics", None),
    ("GET", "/api-keys", None),
    ("POST", "/access-tokens", {}),
    ("GET", "/nodes", None),
    ("GET", f"/sandboxes/{UNKNOWN}", None),
    ("GET", f"/sandboxes/{UNKNOWN}/logs", None),
    ("POST", f"/sandboxes/{UNKNOWN}/refreshes", {}),
    ("POST", f"/sandboxes/{UNKNOWN}/nothing", {}),
    ("POST", "/sandboxes", {"templateID": "no-such"}),
    ("POST", "/sandboxes", {"templateID": 5}),
    ("POST", "/sandboxes", {"templateID": "base", "mcp": {"exa": {}}}),
    ("POST", "/v2/sandboxes", {"templateID": "base", "iam": {"tokens": ["t"]}}),
    ("POST", "/v2/sandboxes", {"templateID": "base", "timeout": -1}),
    ("PUT", "/v2/sandboxes", {}),
    ("POST", "/v2/sandboxes", "text"),
    ("POST", "/v3/templates", {"name": "x", "cpuCount": 10_000}),
    ("GET", "/v2/sandboxes?limit=x", None),
    ("GET", "/v2/sandboxes?nextToken=x", None),
    ("GET", "/nothing", None),
    ("DELETE", "/templates/none", None),
    ("POST", f"/sandboxes/{UNKNOWN}/pause", {"mode": "filesystem"}),
    ("GET", "/volumes/none", None),
    ("GET", "/volumecontent/none/dir?path=/", None),
]
INSIDE = [
    (49983, "POST", "/init", {}),
    (49983, "POST", "/freeze", {}),
    (49983, "POST", "/files/compose", {}),
    (49983, "POST", "/process.Process/Nothing", {}),
    (49983, "POST", "/nothing.Service/Call", {}),
    (49983, "POST", "/process.Process/Start", {"process": 5}),
    (49983, "GET", "/nothing", None),
    (
        49983,
        "POST",
        "/process.Process/SendSignal",
        {"process": {"pid": 999_999}, "signal": "SIGNAL_SIGHUP"},
    ),
    (49983, "POST", "/filesystem.Filesystem/Stat", {"path": "/none"}),
    (49983, "GET", "/files?path=/none", None),
    (49983, "POST", "/filesystem.Filesystem/Stat", "text"),
    (49983, "POST", "/files", None),
    (49999, "POST", "/execute", {"code": 5}),
    (49999, "POST", "/execute", {"code": "1", "language": "no/name"}),
    (49999, "POST", "/execute", {"code": "1", "context_id": "none"}),
    (49999, "GET", "/nothing", None),
    (49999, "POST", "/contexts", {"language": "cobol"}),
    (49999, "DELETE", "/contexts/ctx_none", None),
    (50005, "GET", "/", None),
]


@pytest.fixture(scope="module")
def http(served: tuple[str, str]) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=served[1], headers={"X-API-Key": KEY}, timeout=20 * PATIENCE
    ) as http:
        yield http


@pytest.fixture(scope="module")
def inside(http: httpx.Client) -> Iterator[dict[str, str]]:
    """The headers by which a client speaks to a sandbox."""
    made = http.post("/v2/sandboxes", json={"templateID": "base"}).json()
    yield {"E2b-Sandbox-Id": made["sandboxID"], "X-Access-Token": made["envdAccessToken"]}
    http.delete(f"/sandboxes/{made['sandboxID']}")


def body(document: object) -> dict[str, object]:
    if isinstance(document, str):
        return {"content": document, "headers": {"Content-Type": "application/json"}}
    return {} if document is None else {"json": document}


def refused(answer: httpx.Response) -> str:
    """The words of it, which are JSON and no fault of ours."""
    assert 400 <= answer.status_code < 500 or answer.status_code in (501, 502), answer.text
    assert answer.headers["content-type"].startswith("application/json"), answer.headers
    said = json.loads(answer.content)
    assert said["message"] and said["code"], said
    return str(said["message"])


@pytest.mark.parametrize(("method", "path", "document"), CONTROL)
def test_a_call_to_the_control_plane_is_refused_in_words(
    http: httpx.Client, method: str, path: str, document: object
) -> None:
    refused(http.request(method, path, **body(document)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("port", "method", "path", "document"), INSIDE)
def test_a_call_to_a_sandbox_is_refused_in_words(
    http: httpx.Client, inside: dict[str, str], port: int, method: str, path: str, document: object
) -> None:
    wanted = body(document)
    headers = {**inside, "E2b-Sandbox-Port": str(port), **wanted.pop("headers", {})}  # type: ignore[dict-item]
    refused(http.request(method, path, headers=headers, **wanted))  # type: ignore[arg-type]
