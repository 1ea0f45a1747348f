"""E2B's servers in sandboxes by host name, as clients with E2B_DOMAIN ask for them, without the TLS."""

from typing import Any

import httpx
import pytest

from tests.compat.clients.conftest import IMAGE

pytestmark = [pytest.mark.root, pytest.mark.service]
UNKNOWN = "sbx-" + "a" * 26


@pytest.fixture(scope="module")
def api(named: tuple[str, str]) -> Any:
    """The control plane by its name."""
    url, key = named
    headers = {"Host": "api.boxes.test", "X-API-KEY": key}
    with httpx.Client(base_url=url, headers=headers, timeout=30) as http:
        yield http


def test_a_sandbox_is_made_by_the_apis_name_and_asked_by_its_own(
    api: httpx.Client, named: tuple[str, str]
) -> None:
    made = api.post("/v2/sandboxes", json={"templateID": "base"}).json()
    assert made["domain"] == "boxes.test"
    name = f"49983-{made['sandboxID']}.boxes.test"
    token = {"X-Access-Token": made["envdAccessToken"]}
    with httpx.Client(base_url=named[0], headers={"Host": name}, timeout=30) as http:
        assert http.get("/health", headers=token).status_code == 204
        wrote = http.post("/files?path=a", content=b"by name", headers=token)
        assert wrote.json()[0]["path"] == "/home/user/a"
        assert http.get("/files?path=a", headers=token).content == b"by name"
        refused = http.get("/files?path=a")
        assert (refused.status_code, refused.json()["code"]) == (401, 401)
        other = http.get(
            "/files?path=a", headers={"X-Access-Token": token["X-Access-Token"][:-2] + "AA"}
        )
        assert other.status_code == 401
    code = f"49999-{made['sandboxID']}.boxes.test"
    with httpx.Client(base_url=named[0], headers={"Host": code}, timeout=60) as http:
        said = http.post("/execute", json={"code": "6 * 7"}, headers=token).text
        assert '"text":"42"' in said
    assert api.delete(f"/sandboxes/{made['sandboxID']}").status_code == 204


def test_other_ports_of_a_sandbox_are_not_the_adapters(
    api: httpx.Client, named: tuple[str, str]
) -> None:
    made = api.post("/v2/sandboxes", json={"templateID": "base"}).json()
    host = f"8000-{made['sandboxID']}.boxes.test"
    token = {"X-Access-Token": made["envdAccessToken"], "Host": host}
    answer = httpx.get(f"{named[0]}/health", headers=token, timeout=30)
    assert answer.status_code in (
        401,
        403,
        404,
    )  # links of `forwarding`, which this token is none of
    api.delete(f"/sandboxes/{made['sandboxID']}")


def test_a_token_of_one_sandbox_opens_no_other(api: httpx.Client, named: tuple[str, str]) -> None:
    made = [api.post("/v2/sandboxes", json={"templateID": "base"}).json() for _ in range(2)]
    mixed = {
        "E2b-Sandbox-Id": made[0]["sandboxID"], "E2b-Sandbox-Port": "49983",
        "X-Access-Token": made[1]["envdAccessToken"],
    }  # fmt: skip
    answer = httpx.get(f"{named[0]}/compat/e2b/files?path=/etc/passwd", headers=mixed, timeout=30)
    assert answer.status_code == 401
    for each in made:
        api.delete(f"/sandboxes/{each['sandboxID']}")


def test_a_template_of_our_own_api_is_one_of_theirs(
    api: httpx.Client, named: tuple[str, str]
) -> None:
    ours = {"Authorization": f"Bearer {named[1]}"}
    made = httpx.put(
        f"{named[0]}/v1/templates/ours", json={"image": IMAGE}, headers=ours, timeout=30
    )
    assert made.status_code == 200, made.text
    box = api.post("/v2/sandboxes", json={"templateID": "ours"})
    assert (box.status_code, box.json()["templateID"]) == (201, "ours"), box.text
    api.delete(f"/sandboxes/{box.json()['sandboxID']}")


def test_what_is_nowhere_is_told_in_json(api: httpx.Client, named: tuple[str, str]) -> None:
    for method, path, status in (
        ("GET", "/no/such/route", 404), ("GET", f"/sandboxes/{UNKNOWN}", 404),
        ("POST", "/v2/sandboxes", 400), ("POST", "/secrets", 404), ("PUT", "/uploads/nobody", 404),
        ("DELETE", "/volumes/none", 404), ("GET", "/templates/none/tags", 404),
        ("GET", "/v2/sandboxes?state=lost", 400), ("GET", "/v2/sandboxes?nextToken=x", 400),
    ):  # fmt: skip
        answer = api.request(method, path)
        assert answer.status_code == status, (path, answer.text)
        body = answer.json()
        assert body["code"] == status and body["message"], path
    page = {"Content-Type": "text/plain"}
    assert (
        api.post("/v2/sandboxes", content=b'{"templateID": "base"}', headers=page).status_code
        == 415
    )
    gone = {"Host": f"49983-{UNKNOWN}.boxes.test", "Authorization": f"Bearer {named[1]}"}
    answer = httpx.get(f"{named[0]}/health", headers=gone, timeout=30)
    assert answer.status_code == 502 and "was not found" in answer.json()["message"]
    assert httpx.get(f"{named[0]}/sandboxes", headers={"Host": "api.boxes.test"}).status_code == 401


def test_a_call_that_is_none_is_refused_in_the_clients_own_words(
    api: httpx.Client, named: tuple[str, str]
) -> None:
    made = api.post("/v2/sandboxes", json={"templateID": "base"}).json()
    headers = {
        "Host": f"49983-{made['sandboxID']}.boxes.test", "X-Access-Token": made["envdAccessToken"],
    }  # fmt: skip
    json, stream = (
        {"Content-Type": "application/json"},
        {"Content-Type": "application/connect+json"},
    )
    with httpx.Client(base_url=named[0], headers=headers, timeout=30) as http:
        for path, kind, body, status, code in (
            ("/process.Process/Nothing", json, b"{}", 404, 404),
            ("/process.Process/List", json, b"{", 400, "invalid_argument"),
            (
                "/process.Process/List",
                {"Content-Type": "application/proto"},
                b"",
                400,
                "invalid_argument",
            ),
            ("/process.Process/SendInput", json, b"{}", 400, "invalid_argument"),
            ("/process.Process/Start", json, b"{}", 400, "invalid_argument"),
            ("/filesystem.Filesystem/Stat", json, b'{"path": "~eve"}', 400, "invalid_argument"),
            ("/filesystem.Filesystem/Stat", json, b'{"path": "/none"}', 404, "not_found"),
            ("/init", json, b"{}", 404, 404),
            ("/freeze", json, b"", 404, 404),
            ("/files/compose", json, b"{}", 404, 404),
        ):
            answer = http.post(path, content=body, headers=kind)
            assert (answer.status_code, answer.json()["code"]) == (status, code), (
                path,
                answer.text,
            )
        for body in (
            b"",
            b"\0\0\0\0\x09{}",
            b"\1\0\0\0\2{}",
            b"\0\0\0\0\2{}",
            b"\0\xff\xff\xff\xff",
        ):
            answer = http.post("/process.Process/Start", content=body, headers=stream)
            assert answer.status_code == 200 and answer.content[0] == 2, body
            assert b'"code":"invalid_argument"' in answer.content
        late = json | {"Connect-Timeout-Ms": "x"}
        assert http.post("/process.Process/List", content=b"{}", headers=late).status_code == 400
    api.delete(f"/sandboxes/{made['sandboxID']}")
