"""The gateway's way to a sandbox's node: slow bodies, lost nodes, sandboxes that moved."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from sandboxd.gateway import connection
from sandboxd.model import Template, agent
from sandboxd.policy import Policies
from sandboxd.queue import Queue
from sandboxd.queue.sessions import Sessions
from sandboxd.settings import Settings
from tests.gateway.fake_sessions import FakeSessions
from tests.gateway.fakes import FakeNode


@pytest.fixture(scope="session")
def policies(policies: Policies) -> Policies:
    session = Template(name="session", cpus=1.0, session=True)
    return replace(policies, templates={**policies.templates, "session": session})


@pytest.fixture
async def directory(settings: Settings) -> AsyncIterator[Sessions]:
    directory = Sessions(settings)
    yield directory
    await directory.close()


@pytest.fixture
async def sessions(
    queue: Queue, directory: Sessions, tmp_path: Path
) -> AsyncIterator[FakeSessions]:
    sessions = FakeSessions(tmp_path / "agent.sock", directory)
    await sessions.start()
    await queue.announce(FakeNode(queue, tmp_path / "agent.sock").record(), ttl=60)
    yield sessions
    await sessions.stop()


@pytest.fixture
async def box(sessions: FakeSessions, wire: httpx.AsyncClient) -> str:
    made = await wire.post("/v1/sandboxes", json={})
    assert made.status_code == 201, made.text
    return f"/v1/sandboxes/{made.json()['id']}"


async def test_an_upload_takes_as_long_as_it_comes_on(
    sessions: FakeSessions,
    wire: httpx.AsyncClient,
    port: int,
    box: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`body_timeout` is 1 s here, for a body that is read as a whole."""
    monkeypatch.setattr(connection, "_BODY_GRACE", 0.1)

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(5):
            await asyncio.sleep(0.4)
            yield b"x" * 10

    path = f"{box}/files/content?path=f"
    assert (await wire.put(path, content=slowly())).status_code == 200
    assert b"".join(sessions.received) == b"x" * 50

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\ny".encode())
    head = (await asyncio.wait_for(reader.read(), 10)).lower()  # to the end of the connection
    assert head.startswith(b"http/1.1 408 ") and b"connection: close" in head
    writer.close()


async def test_connections_are_kept_and_thrown_away_with_what_was_given_up(
    sessions: FakeSessions, wire: httpx.AsyncClient, box: str
) -> None:
    for _ in range(5):
        assert (await wire.get(f"{box}/metrics")).status_code == 200
    assert sessions.connections == 1
    hang = asyncio.Event()

    async def hanging(call: agent.Call, writer: asyncio.StreamWriter) -> Any:
        if isinstance(call, agent.Run):
            await hang.wait()
        return None

    sessions.act = hanging
    with pytest.raises(httpx.ReadTimeout):
        await wire.post(f"{box}/exec", json={"command": ["x"]}, timeout=0.3)
    assert (await wire.get(f"{box}/metrics")).status_code == 200
    assert sessions.connections == 2, "the one whose call was given up is not used again"


async def test_a_node_that_goes_in_the_middle_of_a_call_is_no_reason_to_try_again(
    sessions: FakeSessions, wire: httpx.AsyncClient, box: str
) -> None:
    def dies(call: agent.Call, writer: asyncio.StreamWriter) -> Any:
        writer.transport.abort()
        raise ConnectionResetError

    sessions.act = dies
    answer = await wire.post(f"{box}/exec", json={"command": ["x"]})
    assert (answer.status_code, answer.json()["code"]) == (503, "node_lost")
    assert answer.json()["retryable"] is False
    sessions.act = None
    await sessions.stop()
    away = await wire.get(f"{box}/metrics")
    assert (away.status_code, away.json()["code"], away.json()["retryable"]) == (
        503, "unavailable", True,
    )  # fmt: skip


async def test_a_sandbox_whose_node_was_started_anew_elsewhere_is_found_again(
    sessions: FakeSessions, wire: httpx.AsyncClient, box: str, directory: Sessions, tmp_path: Path
) -> None:
    assert (await wire.get(f"{box}/metrics")).status_code == 200
    await sessions.stop()
    moved = FakeSessions(tmp_path / "other.sock", directory)
    await moved.start()
    for name, entry in sessions.sandboxes.items():
        moved.sandboxes[name] = replace(entry, address=f"unix:{tmp_path}/other.sock")
        assert await directory.update(moved.sandboxes[name])
    assert (await wire.get(f"{box}/metrics")).status_code == 200
    await moved.stop()


async def test_a_node_of_another_machine_is_told_to_be_one(
    sessions: FakeSessions, wire: httpx.AsyncClient, box: str, directory: Sessions
) -> None:
    (entry,) = sessions.sandboxes.values()
    assert await directory.update(replace(entry, address="tls:10.0.0.9:7071"))
    answer = await wire.get(f"{box}/metrics")
    assert (answer.status_code, answer.json()["code"]) == (503, "node_unreachable")
    assert "own machine" in answer.json()["detail"] and not answer.json()["retryable"]


async def test_a_node_that_speaks_another_language_is_our_fault(
    sessions: FakeSessions, wire: httpx.AsyncClient, box: str
) -> None:
    def babbles(call: agent.Call, writer: asyncio.StreamWriter) -> Any:
        writer.write(b"\xff" * 64)
        return None

    sessions.act = babbles
    answer = await wire.get(f"{box}/metrics")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
