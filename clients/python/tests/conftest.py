"""Both clients behind one face, so that each promise is tested once for each."""

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from sandboxd_client import AsyncClient, Client, Run, Stream


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec is not None and spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wire_service = _load("wire_service")


class Threaded:
    """A blocking object as an async one: calls go to a thread."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        if name == "aclose":
            name = "close"
        member = getattr(self.inner, name)
        if not callable(member):
            return member
        if name in ("events", "stream", "attach"):
            return lambda *args, **options: Threaded(member(*args, **options))

        async def call(*args: Any, **options: Any) -> Any:
            answer = await asyncio.to_thread(member, *args, **options)
            return Threaded(answer) if isinstance(answer, Run | Stream) else answer

        return call

    async def __aiter__(self) -> AsyncIterator[Any]:
        iterator = iter(self.inner)
        end = object()
        while (item := await asyncio.to_thread(next, iterator, end)) is not end:
            yield item

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.inner.__enter__)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.inner.__exit__, kind, error, trace)


@pytest.fixture(scope="session")
def running_service() -> Iterator[Any]:
    with wire_service.WireService() as running:
        yield running


@pytest.fixture
def service(running_service: Any) -> Any:
    running_service.reset()
    return running_service


@pytest.fixture(params=["sync", "async"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Any]]:
    """Makes clients of one kind; closes them at the end."""
    made: list[Any] = []

    def make(*args: Any, **options: Any) -> Any:
        kind = request.param
        client = (
            AsyncClient(*args, **options) if kind == "async" else Threaded(Client(*args, **options))
        )
        made.append(client)
        return client

    make.kind = request.param  # type: ignore[attr-defined]
    yield make
    for client in made:
        await client.aclose()


@pytest.fixture
def client(connect: Callable[..., Any], service: Any) -> Any:
    return connect(service.url, "key-1")
