"""Quotas hold however many gateways ask at the same moment: each is one step of the server's."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from sandboxd.errors import QueueFull, QuotaExceeded
from sandboxd.model import Job, Result, Status
from sandboxd.model.session import Entry
from sandboxd.model.stored import TemplateRequest
from sandboxd.queue import Queue
from sandboxd.queue.sessions import Sessions
from sandboxd.queue.store import Store
from sandboxd.queue.templates import Templates
from sandboxd.settings import Settings, TenantSettings
from tests.queue.test_sessions import entry, over

Make = Callable[..., Job]
MOST, GATEWAYS, EACH = 7, 4, 12


async def _outcome(queue: Queue, job: Job) -> str:
    try:
        await queue.submit(job)
    except QuotaExceeded:
        return "quota"
    except QueueFull:
        return "full"
    return "accepted"


async def test_a_tenant_gets_no_job_more_than_its_quota_by_asking_everywhere_at_once(
    settings: Settings, job: Make
) -> None:
    small = replace(settings, gateway=replace(settings.gateway, tenant_max_jobs=MOST))
    gateways = [Queue.connect(small) for _ in range(GATEWAYS)]
    try:
        tries = [_outcome(gateway, job()) for gateway in gateways for _ in range(EACH)]
        # Another tenant's are not counted with them.
        others = [_outcome(gateway, job(tenant="other")) for gateway in gateways]
        told = await asyncio.gather(*tries, *others)
        assert Counter(told[: len(tries)]) == {"accepted": MOST, "quota": GATEWAYS * EACH - MOST}
        assert told[len(tries) :] == ["accepted"] * GATEWAYS
        # Ends at the same moment give back as many places, no more.
        leases = await gateways[0].claim("n", jobs=MOST, cpu=10**9, memory=10**15)
        leases = [lease for lease in leases if lease.job.tenant == "acme"]
        await asyncio.gather(
            *(queue.complete(lease, _ended(lease.job)) for lease in leases for queue in gateways)
        )
        again = await asyncio.gather(
            *(_outcome(gateway, job()) for gateway in gateways for _ in range(EACH))
        )
        assert Counter(again)["accepted"] == len(leases)
    finally:
        for gateway in gateways:
            await gateway.close()


async def test_a_tenant_gets_no_sandbox_more_than_its_quota_by_asking_everywhere_at_once(
    settings: Settings,
) -> None:
    """What counts is the moment at which it is there: forks are never reserved."""
    small = replace(settings, sessions=replace(settings.sessions, tenant_max=MOST))
    nodes = [Sessions(small) for _ in range(GATEWAYS)]

    async def add(node: Sessions, one: Entry) -> bool:
        try:
            return await node.add(one)
        except QuotaExceeded:
            return False

    try:
        made = [(node, entry()) for node in nodes for _ in range(EACH)]
        assert all([await node.reserve("acme", one.sandbox.id, None) for node, one in made])
        added = await asyncio.gather(*(add(node, one) for node, one in made))
        assert Counter(added) == {True: MOST, False: GATEWAYS * EACH - MOST}
        # The same again is no other one, and one that ends gives its place back.
        node, held = made[added.index(True)]
        assert await add(node, held)
        await node.finish(over(held))
        again = await asyncio.gather(*(add(node, entry()) for node in nodes))
        assert Counter(again) == {True: 1, False: GATEWAYS - 1}
    finally:
        for each in nodes:
            await each.close()


async def test_a_tenants_own_quotas_are_kept_as_those_of_all_are(
    settings: Settings, job: Make
) -> None:
    own = {"acme": TenantSettings(jobs=MOST, sandboxes=1, files=10), "none": TenantSettings(jobs=0)}
    small = replace(
        settings, tenants=own, gateway=replace(settings.gateway, tenant_max_jobs=MOST + 2)
    )
    gateways = [Queue.connect(small) for _ in range(GATEWAYS)]
    sessions, store = Sessions(small), Store(small)
    try:
        told = {
            tenant: await asyncio.gather(
                *(_outcome(each, job(tenant=tenant)) for each in gateways for _ in range(EACH))
            )
            for tenant in ("acme", "none", "other")
        }
        accepted = {tenant: Counter(each)["accepted"] for tenant, each in told.items()}
        assert accepted == {"acme": MOST, "none": 0, "other": MOST + 2}
        assert await sessions.add(entry())
        with pytest.raises(QuotaExceeded, match="1 sandboxes"):
            await sessions.add(entry())
        assert await sessions.add(entry(tenant="other"))
        with pytest.raises(QuotaExceeded, match="10 bytes"):
            await store.keep_file("acme", b"eleven bytes")
        await store.keep_file("other", b"eleven bytes")
    finally:
        await sessions.close()
        await store.close()
        for gateway in gateways:
            await gateway.close()


async def test_the_queue_is_never_longer_than_its_limit(settings: Settings, job: Make) -> None:
    small = replace(settings, queue=replace(settings.queue, max_length=MOST))
    gateways = [Queue.connect(small) for _ in range(GATEWAYS)]
    try:
        told = await asyncio.gather(
            *(_outcome(gateway, job(tenant=f"t{n}")) for gateway in gateways for n in range(EACH))
        )
        assert Counter(told)["accepted"] == MOST
        assert (await gateways[0].stats()).queued == MOST
    finally:
        for gateway in gateways:
            await gateway.close()


async def test_one_idempotency_key_sent_everywhere_at_once_makes_one_job(
    settings: Settings, job: Make
) -> None:
    gateways = [Queue.connect(settings) for _ in range(GATEWAYS)]
    try:
        ids = await asyncio.gather(
            *(
                gateway.submit(job(), idempotency_key="k")
                for gateway in gateways
                for _ in range(EACH)
            )
        )
        assert len({*ids}) == 1 and (await gateways[0].stats()).queued == 1
    finally:
        for gateway in gateways:
            await gateway.close()


async def test_files_sent_at_once_do_not_pass_the_quota_together(settings: Settings) -> None:
    small = replace(settings, judge=replace(settings.judge, tenant_files_max=MOST * 1000))
    stores = [Store(small) for _ in range(GATEWAYS)]

    async def keep(store: Store, number: int) -> bool:
        try:
            await store.keep_file("acme", number.to_bytes(2, "big") * 500)
        except QuotaExceeded:
            return False
        return True

    try:
        kept = await asyncio.gather(
            *(
                keep(store, number * GATEWAYS + i)
                for number in range(EACH)
                for i, store in enumerate(stores)
            )
        )
        assert sum(kept) == MOST
    finally:
        for store in stores:
            await store.close()


async def test_templates_put_at_once_do_not_pass_the_quota_together(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandboxd.queue.templates.TENANT_MAX", MOST)
    stores = [Templates(settings) for _ in range(GATEWAYS)]

    async def put(store: Templates, name: str) -> bool:
        try:
            await store.put("acme", name, TemplateRequest(image=f"image-{name}"))
        except QuotaExceeded:
            return False
        return True

    try:
        tries = [put(store, f"t{i}-{n}") for n in range(EACH) for i, store in enumerate(stores)]
        assert sum(await asyncio.gather(*tries)) == MOST
        have = await stores[0].all("acme")
        assert len(have) == MOST
        # One that is there can still be changed, and room that is given back can be taken.
        name = next(iter(have))
        await stores[1].put("acme", name, TemplateRequest(image="other"))
        changed = await stores[0].get("acme", name)
        assert changed is not None and changed.image == "other"
        assert await stores[0].drop("acme", name) and await put(stores[1], "another")
    finally:
        for store in stores:
            await store.close()


def _ended(job: Job) -> Result:
    return Result(id=job.id, status=Status.OK, exit_code=0, created_at=job.created_at)
