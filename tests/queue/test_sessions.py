"""The directory of sessions: one owner per record, one end, lists that miss nothing."""

import itertools
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from sandboxd.errors import InvalidRequest, QuotaExceeded
from sandboxd.gateway.webhooks import Hook
from sandboxd.model import NodeRecord
from sandboxd.model.callback import SandboxCallback
from sandboxd.model.session import (
    End,
    EndReason,
    Entry,
    Sandbox,
    SandboxState,
    SessionLimits,
)
from sandboxd.queue import Queue
from sandboxd.queue.sessions import Sessions, ended
from sandboxd.queue.store import Store
from sandboxd.settings import Settings

_numbers = itertools.count(1)
Hooks = msgspec.json.Decoder(Hook)
AT = "2026-11-25T12:00:00.000Z"


@pytest.fixture
async def sessions(settings: Settings) -> AsyncIterator[Sessions]:
    sessions = Sessions(settings)
    yield sessions
    await sessions.close()


def entry(tenant: str = "acme", **fields: Any) -> Entry:
    number = next(_numbers)
    letters = "".join(chr(97 + int(digit)) for digit in f"{number:026}")
    fields = {
        "id": f"sbx_{letters}",
        "state": SandboxState.RUNNING,
        "template": "session",
        "image": "host",
        "limits": SessionLimits(),
        "network": "none",
        "node": "n1",
        "isolation": [],
        "created_at": AT,
        "expires_at": AT,
        "timeout": 60.0,
        "on_timeout": "kill",
        **fields,
    }
    return Entry(tenant=tenant, address="unix:/x", sandbox=Sandbox(**fields))


def over(item: Entry) -> Entry:
    return ended(item, End(reason=EndReason.KILLED, at=AT))


async def test_a_record_is_its_tenants_alone(sessions: Sessions) -> None:
    item = entry()
    assert await sessions.add(item)
    assert await sessions.find("acme", item.sandbox.id) == item
    assert await sessions.find("other", item.sandbox.id) is None
    assert (await sessions.page("other")).sandboxes == []


async def test_an_end_is_written_once_and_nothing_after_it(sessions: Sessions) -> None:
    item = entry()
    await sessions.add(item)
    assert await sessions.finish(over(item))
    assert not await sessions.finish(over(item))
    assert not await sessions.update(item, "resumed")
    found = await sessions.find("acme", item.sandbox.id)
    assert found is not None
    assert found.sandbox.end == End(reason=EndReason.KILLED, at=AT)


async def test_another_node_cannot_write(sessions: Sessions) -> None:
    item = entry()
    await sessions.add(item)
    stranger = msgspec.structs.replace(
        item, sandbox=msgspec.structs.replace(item.sandbox, node="n2")
    )
    assert not await sessions.update(stranger)
    assert not await sessions.finish(over(stranger))


async def test_a_key_names_one_live_sandbox(sessions: Sessions) -> None:
    first, second, third = (entry(key="k") for _ in range(3))
    assert await sessions.reserve("acme", first.sandbox.id, "k") == first.sandbox.id
    assert await sessions.reserve("acme", second.sandbox.id, "k") == first.sandbox.id
    assert await sessions.reserve("other", third.sandbox.id, "k") == third.sandbox.id
    await sessions.add(first)
    await sessions.release("acme", first.sandbox.id, "k")  # too late: it lives
    assert await sessions.reserve("acme", second.sandbox.id, "k") == first.sandbox.id
    await sessions.finish(over(first))
    assert await sessions.reserve("acme", second.sandbox.id, "k") == second.sandbox.id
    await sessions.release("acme", second.sandbox.id, "k")
    assert await sessions.reserve("acme", third.sandbox.id, "k") == third.sandbox.id


async def test_a_tenant_has_no_more_than_its_number(settings: Settings) -> None:
    few = msgspec.structs.replace(
        settings, sessions=msgspec.structs.replace(settings.sessions, tenant_max=1)
    )
    sessions = Sessions(few)
    try:
        item = entry()
        await sessions.add(item)
        with pytest.raises(QuotaExceeded):
            await sessions.reserve("acme", "sbx_x", None)
        assert await sessions.reserve("other", "sbx_x", None) == "sbx_x"
        await sessions.finish(over(item))
        assert await sessions.reserve("acme", "sbx_x", None) == "sbx_x"
    finally:
        await sessions.close()


async def test_pages_show_each_once_though_many_share_a_moment(sessions: Sessions) -> None:
    made = [entry(metadata={"team": "ab"[i % 2]}) for i in range(25)]
    for item in made:
        await sessions.add(item)
    await sessions.finish(over(made[3]))
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await sessions.page("acme", limit=4, cursor=cursor)
        seen += [sandbox.id for sandbox in page.sandboxes]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(seen) == sorted(item.sandbox.id for item in made)
    running = await sessions.page("acme", state=SandboxState.RUNNING, metadata={"team": "b"})
    assert len(running.sandboxes) == 11
    with pytest.raises(InvalidRequest):
        await sessions.page("acme", cursor="x")


async def test_what_a_vanished_node_had_is_told_to_be_lost(
    sessions: Sessions, settings: Settings
) -> None:
    here, there = entry(node="n1"), entry(node="gone")
    await sessions.add(here)
    await sessions.add(there)
    queue = Queue.connect(settings)
    try:
        await queue.announce(
            NodeRecord(
                id="n1", address="unix:/x", started_at=AT, version="1", isolation=[], languages=[],
                cpu_capacity=0, cpu_reserved=0, memory_capacity=0, memory_reserved=0, pools={},
                running=0,
            ),
            60,
        )  # fmt: skip
        assert await sessions.bury("n2") == 0, "it may only have been late"
        assert await sessions.bury("gone", 0) == 0, "it says so itself"
        assert await sessions.bury("n2", 0) == 1
        assert await sessions.bury("n2", 0) == 0
    finally:
        await queue.close()
    lost = await sessions.find("acme", there.sandbox.id)
    assert lost is not None
    assert lost.sandbox.end is not None
    assert lost.sandbox.end.reason is EndReason.NODE_LOST
    alive = await sessions.find("acme", here.sandbox.id)
    assert alive is not None
    assert alive.sandbox.end is None
    assert await sessions.of_node("n1") == [here]


async def test_events_come_in_order_and_can_be_resumed(sessions: Sessions) -> None:
    item = entry()
    await sessions.add(item, template="session")
    await sessions.update(item, "paused")
    await sessions.finish(over(item))
    events = await sessions.events("acme")
    assert [event.type for event in events] == ["created", "paused", "ended"]
    assert events[2].data == {"reason": "killed"}
    later = await sessions.events("acme", after=events[0].id)
    assert later == events[1:]
    assert await sessions.events("acme", after=events[2].id, wait=0.01) == []
    with pytest.raises(InvalidRequest):
        await sessions.events("acme", after="nonsense")


async def test_what_happens_is_to_be_told_as_far_as_it_is_asked_for(
    sessions: Sessions, settings: Settings
) -> None:
    store = Store(settings)
    all_, some, none = entry(), entry(), entry()
    url = "https://example.org/"
    await sessions.add(all_, SandboxCallback(url=url, secret="0123456789abcdef"))
    await sessions.add(some, SandboxCallback(url=url, events=["paused", "ended"]))
    await sessions.add(none)
    for item in (all_, some, none):
        await sessions.update(item, "paused")
    found = {name: Hooks.decode(hook) for name, hook in await store.take_due_hooks(60.0)}
    assert {name.partition(":")[0] for name in found} == {all_.sandbox.id, some.sandbox.id}
    told = {(hook.event.sandbox, hook.event.type) for hook in found.values() if hook.event}
    assert told == {
        (all_.sandbox.id, "created"), (all_.sandbox.id, "paused"), (some.sandbox.id, "paused"),
    }  # fmt: skip
    assert {hook.callback.secret for hook in found.values()} == {"0123456789abcdef", None}
    assert await store.take_due_hooks(60.0) == [], "they are ours for a minute"
    await store.close()


async def test_webhooks_that_wait_are_bounded_by_tenant(
    sessions: Sessions, settings: Settings
) -> None:
    store = Store(settings)
    item, other = entry(), entry("other")
    await sessions.add(item, SandboxCallback(url="https://example.org/"))
    for _ in range(1005):
        await sessions.update(item, "extended")
    await sessions.add(other, SandboxCallback(url="https://example.org/"))
    waiting = [name for name, _ in await store.take_due_hooks(60.0, 5_000)]
    assert len(waiting) == 1000 + 1
    for name in waiting:
        await store.drop_hook(name)
    await sessions.update(item, "extended")
    assert len(await store.take_due_hooks(60.0)) == 1, "there is room again"
    await store.close()
