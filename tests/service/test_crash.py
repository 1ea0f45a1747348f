"""`kill -9` of the node, the gateway or the queue in the middle of 200 jobs.

Every job that was accepted ends with exactly one terminal status, and the host has no orphan.
"""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.service.footprint import calm
from tests.service.instance import ROLES, Service, running
from tests.service.stock import fixed_stock

pytestmark = [pytest.mark.root, pytest.mark.service, pytest.mark.slow]

JOBS = 200
BEFORE_KILL = 40
"""Jobs that have ended when the process is killed: some run then, some wait."""
OVER_WITHIN = 100.0
BACK_WITHIN = 45.0
LEASE = 3.0
"""Seconds; short, so that a lost node is noticed within the test."""

NODE_DIES = {"node", "supervisor"}
QUIET = {"ok"}
LOST = {"ok", "internal_error"}
"""A job that was running on a killed node is lost, unless it may be repeated."""


@pytest.fixture
def own() -> Iterator[Service]:
    lease = f"queue.lease={LEASE}"
    with fixed_stock() as stock, running(lease, "node.heartbeat=0.5", stock) as service:
        yield service


def _body(index: int) -> dict[str, object]:
    """Every fourth job may be started again when its node is lost. The last before that outlives it,
    however long the rest take to submit."""
    seconds = 5 if index == JOBS // 2 - 1 else 0.1
    return {
        "template": "default",
        "command": ["sh", "-c", f"sleep {seconds}; echo {index}"],
        "retry": "safe" if index % 4 == 0 else "never",
    }


async def _insist(
    client: httpx.AsyncClient, method: str, path: str, **request: Any
) -> httpx.Response:
    """The answer to a repeatable request, asked again while the service is on its way back."""
    async with asyncio.timeout(BACK_WITHIN):
        while True:
            try:
                response = await client.request(method, path, **request)
            except httpx.TransportError:
                pass
            else:
                if response.status_code != 503:
                    return response
            await asyncio.sleep(0.1)


async def _submit(client: httpx.AsyncClient, service: Service, name: str) -> dict[str, int]:
    """Hands in the jobs, killing the named process in their middle. Id -> index, all accepted."""
    accepted: dict[str, int] = {}
    for index in range(JOBS):
        if index == JOBS // 2:
            first = list(accepted)[:BEFORE_KILL]
            await asyncio.gather(*(_finished(client, run) for run in first))
            await _assert_unfinished(client, list(accepted)[-1])
            await asyncio.to_thread(_kill, service, name)
        headers = {"prefer": "respond-async", "idempotency-key": f"job-{index}"}
        response = await _insist(client, "POST", "/v1/runs", json=_body(index), headers=headers)
        assert response.status_code == 202, response.text
        accepted[response.json()["id"]] = index
    return accepted


async def _assert_unfinished(client: httpx.AsyncClient, run: str) -> None:
    record = (await client.get(f"/v1/runs/{run}")).json()
    assert record["state"] != "finished", "the jobs are over before anything is killed"


def _kill(service: Service, name: str) -> None:
    if name == "supervisor":
        service.crash()
        service.start()
        return
    victim = service.role(name)
    assert victim is not None
    os.kill(victim, signal.SIGKILL)


async def _finished(client: httpx.AsyncClient, run: str) -> list[dict[str, object]]:
    """Every event of the run up to its end, each once, over broken connections."""
    events: dict[str, dict[str, object]] = {}
    while True:
        after = {"last-event-id": next(reversed(events))} if events else {}
        try:
            async with client.stream("GET", f"/v1/runs/{run}/events", headers=after) as response:
                if response.status_code == 200:
                    async for identity, event in _sse(response):
                        assert identity not in events, "an event came twice"
                        events[identity] = event
        except httpx.TransportError:
            pass
        if any(event["type"] == "finished" for event in events.values()):
            return list(events.values())
        await asyncio.sleep(0.1)


async def _sse(response: httpx.Response) -> AsyncIterator[tuple[str, dict[str, object]]]:
    identity = ""
    async for line in response.aiter_lines():
        field, _, value = line.partition(": ")
        if field == "id":
            identity = value
        elif field == "data":
            yield identity, json.loads(value)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", [*ROLES, "supervisor"])
async def test_every_accepted_job_ends_exactly_once_though_it_is_killed(
    own: Service, name: str
) -> None:
    calm_before = await calm(own)
    before = own.pids()
    # No keep-alive: a connection to the killed gateway is not a connection to the next one.
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=own.url, timeout=30, limits=limits) as client:
        accepted = await _submit(client, own, name)
        assert len(accepted) == JOBS
        async with asyncio.timeout(OVER_WITHIN):
            events = await asyncio.gather(*(_finished(client, run) for run in accepted))
        records = [(await _insist(client, "GET", f"/v1/runs/{run}")).json() for run in accepted]

    await asyncio.to_thread(own.wait_ready)
    after = own.pids()
    assert after[name] != before[name], "nothing was killed"
    assert name == "supervisor" or after["supervisor"] == before["supervisor"]

    assert Counter(record["state"] for record in records) == {"finished": len(accepted)}
    for (run, index), record, history in zip(accepted.items(), records, events, strict=True):
        ends = [event for event in history if event["type"] == "finished"]
        assert len(ends) == 1, (run, history)
        result = record["result"]
        right = LOST if name in NODE_DIES and index % 4 else QUIET
        assert result["status"] in right, (run, index, result)
        if result["status"] == "ok":
            assert result["stdout"] == f"{index}\n"
        else:
            assert result["reason"] == "node_lost"
        starts = sum(event["type"] == "started" for event in history)
        assert starts <= 1 or index % 4 == 0, "a job that may not be repeated was started twice"
    calm_again = await calm(own)
    # Descriptors are of new processes; what they hold of the host is not.
    assert replace(calm_again, fds={}) == replace(calm_before, fds={})
    assert calm_again.orphans == 0
