"""A queue in a namespace of its own, and jobs to put in it."""

import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest

from sandboxd.model import Job, Limits, RunRequest
from sandboxd.queue import Queue
from sandboxd.settings import Settings, load

_numbers = itertools.count(1)


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return load(
        environ={},
        flags=[f"redis.url={redis_url}", f"instance=t{uuid4().hex[:12]}", "queue.lease=5"],
    )


@pytest.fixture
async def queue(settings: Settings) -> AsyncIterator[Queue]:
    queue = Queue.connect(settings)
    yield queue
    await queue.close()


@pytest.fixture
def job() -> Callable[..., Job]:
    def make(retry: str = "never", **fields: Any) -> Job:
        fields = {
            "id": f"run_{next(_numbers)}",
            "tenant": "acme",
            "request": RunRequest(language="python", source="print(1)", retry=retry),
            "template": "default",
            "limits": Limits(),
            "created_at": "2026-11-25T12:00:00.000Z",
            **fields,
        }
        return Job(**fields)

    return make
