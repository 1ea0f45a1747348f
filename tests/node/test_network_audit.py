"""What sandboxes asked of their networks is written in order, and what is missing is said to be."""

import asyncio
from collections.abc import Sequence

from sandboxd.errors import Unavailable
from sandboxd.model.network_use import NetworkRecord
from sandboxd.node import network_audit
from sandboxd.node.network_audit import NetworkAudit


class Store:
    def __init__(self) -> None:
        self.away = False
        self.written: dict[str, list[NetworkRecord]] = {}

    async def append(self, sandbox: str, records: Sequence[NetworkRecord]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("away")
        self.written.setdefault(sandbox, []).extend(records)


def record(number: int) -> NetworkRecord:
    return NetworkRecord(at="", kind="name", verdict="allowed", port=number)


def ports(store: Store, sandbox: str) -> list[int]:
    return [each.port for each in store.written[sandbox] if each.kind != "gap"]


async def test_an_outage_delays_and_does_not_disorder() -> None:
    store = Store()
    audit = NetworkAudit(store)
    store.away = True
    for number in range(3):
        audit.add("a", record(number))
    audit.add("b", record(9))
    assert not await audit.flush()
    audit.add("a", record(3))
    assert not await audit.flush()
    store.away = False
    assert await audit.flush()
    assert ports(store, "a") == [0, 1, 2, 3] and ports(store, "b") == [9]


async def test_beyond_the_bound_the_newest_are_lost_and_counted() -> None:
    store = Store()
    audit = NetworkAudit(store)
    most = network_audit._PENDING_MAX
    store.away = True
    for number in range(most - 1):
        audit.add("a", record(number))
    assert not await audit.flush()
    for number in range(most - 1, most + 4):
        audit.add("a", record(number))
    assert not await audit.flush()
    audit.add("a", record(most + 4))
    store.away = False
    assert await audit.flush()
    assert ports(store, "a") == list(range(most))
    assert store.written["a"][-1].verdict == "5 records are lost"


async def test_what_comes_while_it_runs_is_written_without_being_asked() -> None:
    store = Store()
    audit = NetworkAudit(store)
    running = asyncio.create_task(audit.run())
    audit.add("a", record(1))
    for _ in range(100):
        if store.written:
            break
        await asyncio.sleep(0.02)
    running.cancel()
    assert ports(store, "a") == [1]
