"""POST, GET and DELETE of runs."""

import asyncio

import httpx
import pytest

from sandboxd.gateway.context import Gateway
from tests.gateway.fakes import FakeNode

RUN = {"language": "python", "source": "print(1)"}


async def test_post_waits_for_the_result(api: httpx.AsyncClient, node: FakeNode) -> None:
    answer = await api.post("/v1/runs", json=RUN | {"stdin": "é"})
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
