import asyncio
import time

import pytest
from fake_service import FakeService, hello

from loadtest import openloop
from loadtest.alarm import Alarm
from loadtest.job import Expectation, Job
from loadtest.job import job as make_job
from loadtest.measurement import Tally
from loadtest.openloop import OpenLoad
from loadtest.peers.http import Server

EXPECT = Expectation(exit_code=0, stdout="1\n")
KINDS = [make_job(name, {"language": "python", "name": name}, EXPECT) for name in ("a", "b")]


def pick(index: int) -> Job:
    return KINDS[index % 2]


async def test_latency_counts_from_the_intended_start_while_the_server_stalls(
    fake: FakeService, server: Server
) -> None:
    """A generator that waited for its answer would report one slow job and 49 quick ones."""
    fake.open.clear()
    asyncio.get_running_loop().call_later(0.5, fake.open.set)
    load = OpenLoad(rate=100, seconds=0.5, max_in_flight=1)
    measured = await openloop.measure(server.connect, pick, load)
    assert (measured.ok, measured.samples) == (50, 50)
    assert measured.percentile_ms(100) >= 400
    assert measured.percentile_ms(50) >= 150


async def test_in_flight_is_bounded_and_the_rest_waits_in_line(
    fake: FakeService, server: Server
) -> None:
    fake.delay = 0.01
    load = OpenLoad(rate=1_000, seconds=0.1, max_in_flight=3)
    measured = await openloop.measure(server.connect, pick, load)
    assert (measured.ok, fake.served) == (100, 100)
    assert (fake.most_in_flight, fake.connections) == (3, 3)


async def test_arrivals_do_not_wait_for_answers(fake: FakeService, server: Server) -> None:
    fake.open.clear()
    asyncio.get_running_loop().call_later(0.5, fake.open.set)
    load = OpenLoad(rate=200, seconds=0.1, max_in_flight=64)
    await openloop.measure(server.connect, pick, load)
    assert fake.most_in_flight == 20


async def test_no_job_starts_before_its_time(fake: FakeService, server: Server) -> None:
    arrivals: list[float] = []
    fake.answer = lambda request: (arrivals.append(time.monotonic()), hello(request))[1]
    begin = time.monotonic()
    await openloop.measure(server.connect, pick, OpenLoad(rate=50, seconds=0.2, max_in_flight=8))
    assert len(arrivals) == 10
    assert all(at - begin >= index / 50 for index, at in enumerate(sorted(arrivals)))


async def test_what_never_ends_is_given_up_and_counted(fake: FakeService, server: Server) -> None:
    fake.open.clear()
    load = OpenLoad(rate=100, seconds=0.1, max_in_flight=4, grace=0.05)
    measured = await openloop.measure(server.connect, pick, load)
    assert (measured.ok, measured.errors) == (0, {"timeout": 4, "unsent": 6})
    assert measured.samples == 10
    assert measured.percentile_ms(100) >= 130
    fake.open.set()


async def test_errors_are_counted_by_kind_and_by_job(fake: FakeService, server: Server) -> None:
    fake.answer = lambda request: hello(request) if request["name"] == "a" else (503, {})
    tallies: dict[str, Tally] = {}
    load = OpenLoad(rate=500, seconds=0.1, max_in_flight=4)
    measured = await openloop.measure(server.connect, pick, load, tallies)
    assert (measured.ok, measured.errors) == (25, {"http_503": 25})
    assert (tallies["a"].ok, tallies["a"].errors) == (25, {})
    assert (tallies["b"].ok, tallies["b"].errors) == (0, {"http_503": 25})


async def test_a_dead_server_fails_jobs_and_not_the_generator(
    fake: FakeService, server: Server
) -> None:
    fake.hang_up = True
    measured = await openloop.measure(server.connect, pick, OpenLoad(rate=200, seconds=0.1))
    assert (measured.ok, measured.errors) == (0, {"connection": 20})


async def test_a_fault_of_the_generator_is_raised(server: Server) -> None:
    def broken(_: int) -> Job:
        raise LookupError("no such job")

    with pytest.raises(ExceptionGroup) as raised:
        await openloop.measure(server.connect, broken, OpenLoad(rate=100, seconds=0.05))
    assert raised.group_contains(LookupError)


@pytest.mark.parametrize(
    ("load", "jobs"),
    [
        (OpenLoad(rate=10, seconds=2), 20),
        (OpenLoad(rate=0.1, seconds=1), 1),
        (OpenLoad(rate=1e6, seconds=1e3, max_jobs=7), 7),
    ],
)
def test_the_number_of_jobs_is_bounded(load: OpenLoad, jobs: int) -> None:
    assert load.jobs == jobs


async def test_the_alarm_never_rings_early() -> None:
    alarm = Alarm()
    for wait in (0, 1, 300_000, 1_700_000):
        due = time.monotonic_ns() + wait
        await alarm.until(due)
        assert time.monotonic_ns() >= due
    alarm.close()


async def test_jobs_of_a_burst_start_together_and_the_rate_stays(
    fake: FakeService, server: Server
) -> None:
    fake.delay = 0.02
    load = OpenLoad(rate=50, seconds=0.4, burst=10)
    measured = await openloop.measure(server.connect, pick, load)
    assert (measured.ok, fake.served, fake.most_in_flight) == (20, 20, 10)
    assert measured.seconds >= 0.2
