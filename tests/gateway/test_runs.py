"""POST, GET and DELETE of runs."""

import asyncio
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from sandboxd.model import Lease, NodeRecord, Result, Status
from sandboxd.settings import Settings
from tests.gateway.fakes import FakeNode

RUN = {"language": "python", "source": "print(1)"}
ASYNC = {"Prefer": "respond-async"}


async def _start(api: httpx.AsyncClient, **more: Any) -> str:
    answer = await api.post("/v1/runs", json=RUN | more, headers=ASYNC)
    assert answer.status_code == 202
    return str(answer.json()["id"])


async def test_post_waits_for_the_result(wire: httpx.AsyncClient, node: FakeNode) -> None:
    answer = await wire.post("/v1/runs", json=RUN | {"stdin": "é"})
    body = answer.json()
    assert answer.status_code == 200
    assert body["status"] == "ok"
    assert body["stdout"] == "print(1)é"
    assert body["id"].startswith("run_") and len(body["id"]) == 30
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers


async def test_alias_reaches_the_node_as_the_language(
    api: httpx.AsyncClient, node: FakeNode
) -> None:
    answer = await api.post("/v1/runs", json=RUN | {"language": "py"})
    assert answer.json()["language"] == "python"


async def test_large_result_comes_whole(api: httpx.AsyncClient, node: FakeNode) -> None:
    def large(lease: Lease) -> Result:
        return Result(id=lease.job.id, status=Status.OK, stdout="x" * 3_000_000)

    node.answer = large
    answer = await api.post("/v1/runs", json=RUN)
    assert len(answer.json()["stdout"]) == 3_000_000


async def test_many_waiting_requests_each_get_their_own_result(
    api: httpx.AsyncClient, node: FakeNode
) -> None:
    answers = await asyncio.gather(
        *(api.post("/v1/runs", json=RUN | {"stdin": f"#{n}"}) for n in range(60))
    )
    assert [a.json()["stdout"] for a in answers] == [f"print(1)#{n}" for n in range(60)]


async def test_respond_async_answers_with_the_record_and_its_place(
    api: httpx.AsyncClient,
) -> None:
    answer = await api.post("/v1/runs", json=RUN, headers=ASYNC)
    body = answer.json()
    assert answer.status_code == 202
    assert body["state"] == "queued" and body["result"] is None
    assert answer.headers["location"] == f"/v1/runs/{body['id']}"
    assert answer.headers["preference-applied"] == "respond-async"
    record = await api.get(answer.headers["location"])
    assert record.status_code == 200 and record.json() == body


async def test_wait_that_ends_early_leaves_the_run_going(
    wire: httpx.AsyncClient, node: FakeNode
) -> None:
    node.gate.clear()
    answer = await wire.post("/v1/runs", json=RUN, headers={"Prefer": "wait=1"})
    assert answer.status_code == 202
    assert answer.json()["state"] == "started"
    assert answer.headers["preference-applied"] == "wait=1"
    async with wire.stream("GET", answer.headers["location"] + "/events") as events:
        node.gate.set()
        await events.aread()
    record = await wire.get(answer.headers["location"])
    assert record.json()["result"]["status"] == "ok"


async def test_wait_that_suffices_gets_the_result(api: httpx.AsyncClient, node: FakeNode) -> None:
    answer = await api.post("/v1/runs", json=RUN, headers={"Prefer": "respond-async, wait=10"})
    assert answer.status_code == 200 and answer.json()["status"] == "ok"
    assert answer.headers["preference-applied"] == "respond-async, wait=10"


async def test_repeated_idempotency_key_gets_the_first_run(
    api: httpx.AsyncClient, node: FakeNode
) -> None:
    node.gate.clear()
    key = {"Idempotency-Key": "k1"}
    first = asyncio.create_task(api.post("/v1/runs", json=RUN, headers=key))
    await node.started.get()
    second = asyncio.create_task(api.post("/v1/runs", json=RUN, headers=key))
    third = await api.post("/v1/runs", json=RUN, headers=key | ASYNC)
    assert third.json()["state"] == "started"
    node.gate.set()
    results = [(await task).json() for task in (first, second)]
    late = (await api.post("/v1/runs", json=RUN, headers=key)).json()
    assert results[0]["status"] == "ok"
    assert results[0] == results[1] == late
    assert third.json()["id"] == late["id"]
    assert node.started.empty()


async def test_delete_of_a_queued_run_ends_it(api: httpx.AsyncClient) -> None:
    run = await _start(api)
    answer = await api.delete(f"/v1/runs/{run}")
    assert answer.status_code == 200
    assert answer.json()["result"]["status"] == "cancelled"


async def test_delete_of_a_running_run_tells_its_node(
    api: httpx.AsyncClient, node: FakeNode
) -> None:
    node.gate.clear()
    run = await _start(api)
    await node.started.get()
    answer = await api.delete(f"/v1/runs/{run}")
    assert answer.status_code == 202 and answer.json()["state"] == "started"
    assert await node.cancelled.get() == run
    node.gate.set()


async def test_delete_of_a_finished_run_changes_nothing(
    api: httpx.AsyncClient, node: FakeNode
) -> None:
    run = (await api.post("/v1/runs", json=RUN)).json()["id"]
    for _ in range(2):
        answer = await api.delete(f"/v1/runs/{run}")
        assert answer.status_code == 200
        assert answer.json()["result"]["status"] == "ok"


async def test_delete_of_a_queued_run_answers_the_request_that_waits_for_it(
    api: httpx.AsyncClient, settings: Settings
) -> None:
    key = {"Idempotency-Key": "k"}
    waiting = asyncio.create_task(api.post("/v1/runs", json=RUN, headers=key))
    run = await _until_known(api, key)
    await api.delete(f"/v1/runs/{run}")
    assert (await waiting).json()["status"] == "cancelled"


async def _until_known(api: httpx.AsyncClient, key: dict[str, str]) -> str:
    """The id that a waiting request with this key got."""
    answer = await api.post("/v1/runs", json=RUN, headers=key | ASYNC)
    return str(answer.json()["id"])


async def _post_and_vanish(port: int, node: FakeNode, headers: str = "") -> Lease:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"language":"python","source":"1"}'
    head = (
        f"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
    )
    writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    lease = await node.started.get()
    writer.close()
    return lease


async def test_client_that_vanishes_cancels_its_run(port: int, node: FakeNode) -> None:
    node.gate.clear()
    lease = await _post_and_vanish(port, node)
    assert await asyncio.wait_for(node.cancelled.get(), 10) == lease.job.id
    node.gate.set()


@pytest.mark.parametrize("header", ["Idempotency-Key: k\r\n", "Prefer: respond-async, wait=9\r\n"])
async def test_client_that_can_ask_again_keeps_its_run(
    port: int, node: FakeNode, header: str
) -> None:
    node.gate.clear()
    kept = await _post_and_vanish(port, node, header)
    lost = await _post_and_vanish(port, node)
    # The second cancellation arrives, so the first would have.
    assert await asyncio.wait_for(node.cancelled.get(), 10) == lost.job.id
    assert node.cancelled.empty()
    node.gate.set()
    found = None
    while found is None or found[1].result is None:
        await node.queue.events(kept.job.id, "0", block=1)
        found = await node.queue.record(kept.job.id)
    assert found[1].result.status == "ok"


async def test_languages_say_what_a_live_node_offers(
    api: httpx.AsyncClient, node: FakeNode
) -> None:
    languages = {x["name"]: x for x in (await api.get("/v1/languages")).json()["languages"]}
    assert languages["python"]["available"] and languages["python"]["aliases"] == ["py"]
    assert not languages["python"]["compiles"]
    assert languages["c"]["compiles"] and not languages["c"]["available"]
    assert languages["c"]["limits"]["pids"] == 32


async def test_without_a_node_the_service_lives_but_is_not_ready(api: httpx.AsyncClient) -> None:
    assert (await api.get("/healthz")).json()["status"] == "alive"
    answer = await api.get("/readyz")
    assert answer.status_code == 503
    assert "node" in answer.json()["detail"]


async def test_with_a_node_the_service_is_ready(api: httpx.AsyncClient, node: FakeNode) -> None:
    assert (await api.get("/readyz")).json() == {"status": "ready", "nodes": 1}


async def test_metrics_tell_of_requests_queue_and_nodes(
    api: httpx.AsyncClient, node: FakeNode
) -> None:
    await api.post("/v1/runs", json=RUN)
    second: NodeRecord = replace(node.record(), id="n2")
    await node.queue.announce(second, ttl=60)
    lines = (await api.get("/metrics")).text.splitlines()
    assert 'sandboxd_http_requests_total{route="/v1/runs",status="200"} 1.0' in lines
    assert 'sandboxd_http_request_seconds_count{route="/v1/runs"} 1.0' in lines
    assert "sandboxd_gateway_waiting 0.0" in lines
    assert "sandboxd_queue_up 1.0" in lines
    assert 'sandboxd_queue_jobs{state="queued"} 0.0' in lines
    assert "sandboxd_jobs_finished_total 1.0" in lines
    assert 'sandboxd_node_pool{node="n2",template="default"} 3.0' in lines
    assert 'sandboxd_node_runs_total{node="n1"} 7.0' in lines
    assert 'sandboxd_node_load{node="n2"} 0.5' in lines
