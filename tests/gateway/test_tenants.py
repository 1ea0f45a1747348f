"""API keys, and the wall between tenants."""

import asyncio
import hashlib
import os
from pathlib import Path

import httpx
import pytest

from sandboxd.gateway.auth import Keys
from sandboxd.gateway.context import Gateway
from sandboxd.settings import SettingsError

RUN = {"language": "python", "source": "1"}
ASYNC = {"Prefer": "respond-async"}


def line(tenant: str, key: str) -> str:
    return f"{tenant}:{hashlib.sha256(key.encode()).hexdigest()}\n"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def keys_file(tmp_path: Path) -> str:
    path = tmp_path / "keys"
    path.write_text("# who\n" + line("ann", "ka") + line("bob", "kb") + line("bob", "kb2"))
    return str(path)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("wrong"),
        bearer(""),
        {"Authorization": "ka"},
        {"Authorization": "Basic ka"},
        {"Authorization": b"Bearer \xff\xfe"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/runs/run_x", "/v1/languages", "/v1/nothing"])
async def test_without_a_valid_key_nothing_is_told(
    api: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    answer = await api.get(path, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthorized"
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_refused_request_is_not_read(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000\r\n\r\n"
    )
    assert (await reader.readline()).split()[1] == b"401"
    writer.close()


async def test_every_key_of_a_tenant_opens_its_runs_and_no_other_does(
    api: httpx.AsyncClient,
) -> None:
    run = (await api.post("/v1/runs", json=RUN, headers=bearer("kb") | ASYNC)).json()["id"]
    place = f"/v1/runs/{run}"
    assert (await api.get(place, headers=bearer("kb2"))).status_code == 200
    for method, path in (("GET", place), ("DELETE", place), ("GET", place + "/events")):
        foreign = await api.request(method, path, headers=bearer("ka"))
        assert (foreign.status_code, foreign.json()["code"]) == (404, "not_found")
    record = await api.get(place, headers=bearer("kb"))
    assert record.json()["state"] == "queued"


async def test_idempotency_keys_of_two_tenants_are_two(api: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "same"} | ASYNC
    runs = [
        (await api.post("/v1/runs", json=RUN, headers=bearer(k) | key)).json()["id"]
        for k in ("ka", "kb", "kb2")
    ]
    assert runs[0] != runs[1] == runs[2]


async def test_probes_are_open_to_this_machine(api: httpx.AsyncClient) -> None:
    assert (await api.get("/healthz")).status_code == 200
    assert (await api.get("/openapi.json")).status_code == 200
    assert (await api.get("/metrics")).status_code == 200
    assert (await api.get("/readyz")).status_code == 503


async def test_metrics_are_closed_to_others(gateway: Gateway) -> None:
    from sandboxd.gateway.app import build_app

    transport = httpx.ASGITransport(build_app(gateway), client=("192.0.2.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://box") as remote:
        assert (await remote.get("/healthz")).status_code == 200
        for path in ("/metrics", "/readyz"):
            assert (await remote.get(path)).status_code == 401
            assert (await remote.get(path, headers=bearer("ka"))).status_code in (200, 503)


async def test_with_keys_any_host_name_serves(api: httpx.AsyncClient) -> None:
    answer = await api.get("/v1/languages", headers=bearer("ka") | {"Host": "box.example"})
    assert answer.status_code == 200


def test_changed_file_is_read_again(keys_file: str) -> None:
    keys = Keys(keys_file)
    Path(keys_file).write_text(line("eve", "ke"))
    keys.reload_if_changed()
    assert keys.tenant("Bearer ke") == "eve"
    assert keys.tenant("Bearer ka") is None


async def test_running_gateway_notices_a_changed_file(
    gateway: Gateway, api: httpx.AsyncClient, keys_file: str
) -> None:
    replacement = Path(keys_file + ".new")
    replacement.write_text(line("eve", "ke"))
    os.replace(replacement, keys_file)
    gateway.reload_keys()
    async with asyncio.timeout(10):
        while (await api.get("/v1/languages", headers=bearer("ke"))).status_code != 200:
            await asyncio.sleep(0.01)
    assert (await api.get("/v1/languages", headers=bearer("ka"))).status_code == 401


async def test_a_key_is_replaced_while_the_service_runs_and_nothing_is_lost(
    gateway: Gateway, api: httpx.AsyncClient, keys_file: str
) -> None:
    """Rotation: a second key beside the first, then the first is struck out."""

    async def until(key: str, status: int) -> None:
        gateway.reload_keys()
        async with asyncio.timeout(10):
            while (await api.get("/v1/languages", headers=bearer(key))).status_code != status:
                await asyncio.sleep(0.01)

    run = (await api.post("/v1/runs", json=RUN, headers=bearer("ka") | ASYNC)).json()["id"]
    before = Path(keys_file).read_text()
    Path(keys_file).write_text(before + line("ann", "new"))
    await until("new", 200)
    for key in ("ka", "new"):
        assert (await api.get(f"/v1/runs/{run}", headers=bearer(key))).status_code == 200
    Path(keys_file).write_text(before.replace(line("ann", "ka"), line("ann", "new")))
    await until("ka", 401)
    assert (await api.get(f"/v1/runs/{run}", headers=bearer("new"))).status_code == 200
    assert (await api.get("/v1/languages", headers=bearer("kb"))).status_code == 200


def test_the_key_itself_is_nowhere_in_the_process(keys_file: str) -> None:
    """Only digests are kept, and they are compared without an early exit."""
    keys = Keys(keys_file)
    assert keys.tenant("Bearer ka") == "ann"
    held = repr(vars(keys))
    assert "'ka'" not in held and hashlib.sha256(b"ka").digest() in dict(keys._keys)


def test_one_key_of_two_tenants_is_refused(keys_file: str) -> None:
    Path(keys_file).write_text(line("ann", "ka") + line("bob", "ka"))
    with pytest.raises(SettingsError, match="line 2 is another tenant's key"):
        Keys(keys_file)


@pytest.mark.parametrize("text", ["nonsense\n", "", "ann:12\n", None])
def test_bad_file_leaves_the_last_good_keys(keys_file: str, text: str | None) -> None:
    keys = Keys(keys_file)
    if text is None:
        Path(keys_file).unlink()
    else:
        Path(keys_file).write_text(text)
    keys.reload_if_changed()
    assert keys.tenant("Bearer ka") == "ann"
    with pytest.raises(SettingsError, match="keys_file"):
        Keys(keys_file)
