"""Full, over quota, without its queue: the answer is 429 or 503 and says when to come back."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from sandboxd.errors import Unavailable
from sandboxd.gateway.app import build_app
from sandboxd.gateway.auth import Keys
from sandboxd.gateway.context import Gateway
from sandboxd.policy import Policies
from sandboxd.queue import Queue
from sandboxd.settings import Settings
from tests.gateway.fakes import FakeNode

RUN = {"language": "python", "source": "1"}
ASYNC = {"Prefer": "respond-async"}


def check(answer: httpx.Response, status: int, code: str) -> None:
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code)
    assert body["retryable"] is True
    assert int(answer.headers["retry-after"]) >= body["retry_after"] > 0


class TestFullQueue:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, queue=replace(settings.queue, max_length=1))

    async def test_one_job_too_many_is_429(self, api: httpx.AsyncClient) -> None:
        assert (await api.post("/v1/runs", json=RUN, headers=ASYNC)).status_code == 202
        check(await api.post("/v1/runs", json=RUN, headers=ASYNC), 429, "queue_full")
        check(await api.post("/v1/runs", json=RUN), 429, "queue_full")


class TestTenantQuota:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, gateway=replace(settings.gateway, tenant_max_jobs=1))

    async def test_one_job_too_many_is_429(self, api: httpx.AsyncClient) -> None:
        assert (await api.post("/v1/runs", json=RUN, headers=ASYNC)).status_code == 202
        check(await api.post("/v1/runs", json=RUN, headers=ASYNC), 429, "quota_exceeded")


class TestWaitingRequests:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, gateway=replace(settings.gateway, max_waiting=1))

    async def test_one_request_too_many_is_503_and_starts_nothing(
        self, api: httpx.AsyncClient, node: FakeNode
    ) -> None:
        node.gate.clear()
        waiting = asyncio.create_task(api.post("/v1/runs", json=RUN))
        await node.started.get()
        check(await api.post("/v1/runs", json=RUN), 503, "unavailable")
        assert (await node.queue.stats()).submitted == 1
        node.gate.set()
        assert (await waiting).json()["status"] == "ok"


class TestWithoutRedis:
    @pytest.fixture
    def redis_url(self, tmp_path: Any) -> str:
        return f"unix://{tmp_path}/nobody.sock"

    async def test_requests_are_503(self, api: httpx.AsyncClient) -> None:
        check(await api.post("/v1/runs", json=RUN), 503, "unavailable")
        check(await api.post("/v1/runs", json=RUN, headers=ASYNC), 503, "unavailable")
        run = "/v1/runs/run_" + "a" * 26
        check(await api.get(run), 503, "unavailable")
        check(await api.delete(run), 503, "unavailable")
        check(await api.get(run + "/events"), 503, "unavailable")
        check(await api.get("/readyz"), 503, "unavailable")

    async def test_the_process_still_lives_and_says_so(self, api: httpx.AsyncClient) -> None:
        assert (await api.get("/healthz")).status_code == 200
        assert "sandboxd_queue_up 0.0" in (await api.get("/metrics")).text


class Interrupted(Queue):
    """The real queue behind a connection that can be cut."""

    cut = False

    async def replies(self, gateway: str, block: float = 5.0) -> Any:
        if self.cut:
            raise Unavailable("cut")
        found = await super().replies(gateway, block=0.05)
        if self.cut and found:
            raise Unavailable("cut, and the replies with it")
        return found

    async def ping(self) -> None:
        if self.cut:
            raise Unavailable("cut")
        await super().ping()


class TestInterruptedReplies:
    @pytest.fixture
    async def queue(self, settings: Settings) -> AsyncIterator[Interrupted]:
        queue = Interrupted(settings)
        yield queue
        await queue.close()

    async def test_short_outage_loses_no_answer(
        self, api: httpx.AsyncClient, node: FakeNode, queue: Interrupted, gateway: Gateway
    ) -> None:
        node.gate.clear()
        waiting = asyncio.create_task(api.post("/v1/runs", json=RUN))
        lease = await node.started.get()
        queue.cut = True
        node.gate.set()
        found = None
        while found is None or found[1].result is None:
            await node.queue.events(lease.job.id, "0", block=1)
            found = await node.queue.record(lease.job.id)
        # What the cut connection had already taken is gone for the reply loop.
        await node.queue.replies(gateway.id, block=0.1)
        queue.cut = False
        assert (await waiting).json()["status"] == "ok"

    async def test_long_outage_ends_the_wait_with_503(
        self, api: httpx.AsyncClient, node: FakeNode, queue: Interrupted
    ) -> None:
        node.gate.clear()
        waiting = asyncio.create_task(api.post("/v1/runs", json=RUN))
        await node.started.get()
        queue.cut = True
        check(await waiting, 503, "unavailable")
        node.gate.set()


async def test_stopping_gateway_answers_whom_it_can_and_503s_the_rest(
    gateway: Gateway, api: httpx.AsyncClient, node: FakeNode
) -> None:
    node.gate.clear()
    late = asyncio.create_task(api.post("/v1/runs", json=RUN))
    lease = await node.started.get()
    gateway.close()
    check(await late, 503, "unavailable")
    assert await node.cancelled.get() == lease.job.id
    node.gate.set()


async def test_unexpected_fault_is_500_with_nothing_of_the_inside(
    settings: Settings, policies: Policies, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Queue):
        async def nodes(self) -> Any:
            raise ZeroDivisionError("secret of the inside")

    gateway = Gateway(settings, policies, Broken(settings), Keys(""))
    transport = httpx.ASGITransport(build_app(gateway))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as api:
        answer = await api.get("/v1/languages")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    assert "secret" not in answer.text
    fault = answer.json()["detail"].split()[-1]
    assert any(fault in record.getMessage() for record in caplog.records)
