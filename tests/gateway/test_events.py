"""Server-sent events of a run."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from sandboxd.gateway.context import Gateway
from sandboxd.queue import Event, Queue
from tests.gateway.fakes import FakeNode

RUN = {"language": "python", "source": "1"}
ASYNC = {"Prefer": "respond-async"}


async def start(api: httpx.AsyncClient) -> str:
    return str((await api.post("/v1/runs", json=RUN, headers=ASYNC)).json()["id"])


async def blocks(answer: httpx.Response) -> AsyncIterator[dict[str, str]]:
    fields: dict[str, str] = {}
    async for text in answer.aiter_lines():
        if text:
            name, _, value = text.partition(": ")
            fields[name] = value
        else:
            yield fields
            fields = {}


async def test_events_come_as_they_happen_and_end_with_finished(
    wire: httpx.AsyncClient, node: FakeNode
) -> None:
    node.gate.clear()
    run = await start(wire)
    seen = []
    async with wire.stream("GET", f"/v1/runs/{run}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for block in blocks(answer):
            data = json.loads(block["data"])
            assert data["id"] == block["id"] and data["type"] == block["event"]
            seen.append(block["event"])
            if block["event"] == "started":
                node.gate.set()
    assert seen == ["queued", "leased", "started", "finished"]


async def test_stream_resumes_after_the_last_id(api: httpx.AsyncClient, node: FakeNode) -> None:
    run = (await api.post("/v1/runs", json=RUN)).json()["id"]
    every = [e async for e in blocks(await api.get(f"/v1/runs/{run}/events"))]
    assert len(every) == 4
    for seen in range(4):
        resumed = await api.get(
            f"/v1/runs/{run}/events", headers={"Last-Event-ID": every[seen]["id"]}
        )
        assert [e async for e in blocks(resumed)] == every[seen + 1 :]


async def test_waiting_stream_is_kept_alive_by_comments(
    gateway: Gateway, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked, waits = Queue.events, asyncio.Semaphore(0)

    async def short(
        self: Queue, job_id: str, after: str = "0", block: float | None = None
    ) -> list[Event]:
        assert block in (None, 15.0)
        if block is not None:
            waits.release()
        return await blocked(self, job_id, after, block=None if block is None else 0.05)

    monkeypatch.setattr(Queue, "events", short)
    run = await start(api)
    following = asyncio.create_task(api.get(f"/v1/runs/{run}/events"))
    for _ in range(3):
        await waits.acquire()
    await gateway.queue.cancel(run)
    text = (await following).text
    assert text.count(": keep-alive\n\n") >= 2
    assert text.rstrip().splitlines()[-2] == "event: finished"


@pytest.mark.parametrize("last", ["x", "1-", "-1", "1-2-3", "9" * 40, "0 ", ""])
async def test_bad_last_event_id(api: httpx.AsyncClient, last: str) -> None:
    run = await start(api)
    answer = await api.get(f"/v1/runs/{run}/events", headers={"Last-Event-ID": last})
    assert (answer.status_code, answer.json()["field"]) == (422, "Last-Event-ID")


async def test_reader_that_vanishes_frees_its_slot(
    gateway: Gateway, wire: httpx.AsyncClient
) -> None:
    run = await start(wire)
    async with wire.stream("GET", f"/v1/runs/{run}/events") as answer:
        async for _ in blocks(answer):
            break
        assert gateway.slots.taken == 1
    async with asyncio.timeout(10):
        while gateway.slots.taken:
            await asyncio.sleep(0.01)


async def test_stopping_gateway_ends_its_streams(gateway: Gateway, wire: httpx.AsyncClient) -> None:
    run = await start(wire)
    seen: list[Any] = []
    async with wire.stream("GET", f"/v1/runs/{run}/events") as answer:
        async for block in blocks(answer):
            seen.append(block["event"])
            gateway.close()
    assert seen == ["queued"]


async def test_head_answers_at_once(wire: httpx.AsyncClient) -> None:
    run = await start(wire)
    answer = await wire.head(f"/v1/runs/{run}/events")
    assert (answer.status_code, answer.content) == (200, b"")
