"""Each module of packet tests has a world of its own, and runs in its `svc`."""

from collections.abc import Iterator

import pytest

from tests.network.world import World, making


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with making() as world:
        yield world
