"""What tenants upload: theirs alone, within their quota, and gone when they say so."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from sandboxd.errors import QuotaExceeded
from sandboxd.model.problem import JudgeProblem
from sandboxd.model.submission import CaseData
from sandboxd.queue.store import Store, digest
from sandboxd.settings import JudgeSettings, Settings


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    limits = JudgeSettings(tenant_files_max=100, tenant_problems_max=100, problems_max=150)
    store = Store(replace(settings, judge=limits))
    yield store
    await store.close()


async def test_a_file_belongs_to_its_tenant(store: Store) -> None:
    name = await store.keep_file("a", b"data")
    assert name == digest(b"data")
    assert await store.file("a", name) == b"data"
    assert await store.content("a", CaseData(digest=name)) == b"data"
    assert await store.file("b", name) is None
    assert not await store.has("b", CaseData(digest=name))
    assert not await store.drop_file("b", name)
    assert await store.drop_file("a", name)
    assert await store.file("a", name) is None


async def test_files_are_bounded_per_tenant_and_the_same_file_counts_once(store: Store) -> None:
    await store.keep_file("a", b"x" * 60)
    await store.keep_file("a", b"x" * 60)
    with pytest.raises(QuotaExceeded):
        await store.keep_file("a", b"y" * 60)
    await store.keep_file("b", b"y" * 60)
    await store.drop_file("a", digest(b"x" * 60))
    await store.keep_file("a", b"y" * 60)


async def test_a_problem_and_its_data_are_kept_until_they_are_dropped(store: Store) -> None:
    name = digest(b"1")
    problem = JudgeProblem(id="prob_1", title="one", size=80)
    await store.keep_problem("a", problem, {name: b"1"})
    assert await store.problem("a", "prob_1") == problem
    assert await store.problem("b", "prob_1") is None
    reference = CaseData(digest=name, problem="prob_1")
    assert await store.has("a", reference)
    assert not await store.has("b", reference)
    assert await store.content("a", reference) == b"1"
    assert await store.problems("a", 0, 10) == [problem]
    with pytest.raises(QuotaExceeded):
        await store.keep_problem("a", replace(problem, id="prob_2"), {name: b"1"})
    assert await store.content("a", replace(reference, problem="prob_2")) is None
    with pytest.raises(QuotaExceeded):
        await store.keep_problem("b", replace(problem, id="prob_3"), {name: b"1"})
    assert not await store.drop_problem("b", "prob_1")
    assert await store.drop_problem("a", "prob_1")
    assert not await store.drop_problem("a", "prob_1")
    assert await store.content("a", reference) is None
    await store.keep_problem("b", replace(problem, id="prob_3"), {name: b"1"})


async def test_a_note_is_forgotten_when_it_is_told_to_be(store: Store) -> None:
    await store.note("a", "k", b"{}", ttl=60)
    assert await store.noted("a", "k") == b"{}"
    assert await store.noted("b", "k") is None
    assert await store.forget_note("a", "k")
    assert await store.noted("a", "k") is None
