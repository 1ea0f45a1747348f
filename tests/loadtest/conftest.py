"""`loadtest` is no part of the wheel: it is found beside the tests."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
for _path in (str(_ROOT), str(Path(__file__).parent)):
    if _path not in sys.path:
        sys.path.insert(0, _path)

from fake_service import FakeService  # noqa: E402

from loadtest.peers.http import Server  # noqa: E402


@pytest.fixture
async def fake() -> AsyncIterator[FakeService]:
    async with FakeService().listening() as service:
        yield service


@pytest.fixture
def server(fake: FakeService) -> Server:
    return Server(host="127.0.0.1", port=fake.port, timeout=5.0)
