"""News that a node tells of a started job: fenced like every transition, and never added twice."""

from collections.abc import Callable

from msgspec.structs import replace

from sandboxd.model import Job
from sandboxd.queue import Queue


async def test_news_are_events_of_the_job_and_a_repeated_call_adds_none(
    queue: Queue, job: Callable[..., Job]
) -> None:
    submitted = job()
    await queue.submit(submitted)
    [lease] = await queue.claim("n1", jobs=1, cpu=10**6, memory=1 << 40)
    assert not await queue.tell(lease, 0, [("case", b"{}")])
    await queue.start(lease)
    news = [("case", b'{"name":"1","verdict":"AC"}'), ("case", b'{"name":"2","verdict":"WA"}')]
    assert await queue.tell(lease, 0, news)
    assert await queue.tell(lease, 0, news)
    assert await queue.tell(lease, 1, [*news[1:], ("case", b'{"name":"3"}')])
    events = [event for event in await queue.events(submitted.id) if event.type == "case"]
    assert [event.data["name"] for event in events] == ["1", "2", "3"]
    assert events[1].data["verdict"] == "WA"


async def test_news_of_an_attempt_that_was_overtaken_are_refused(
    queue: Queue, job: Callable[..., Job]
) -> None:
    submitted = job()
    await queue.submit(submitted)
    [lease] = await queue.claim("n1", jobs=1, cpu=10**6, memory=1 << 40)
    await queue.start(lease)
    assert not await queue.tell(replace(lease, attempt=2), 0, [("case", b"{}")])
    assert not await queue.tell(replace(lease, node="n2"), 0, [("case", b"{}")])
