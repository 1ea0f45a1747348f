from fake_service import FakeService, hello

from loadtest import closedloop
from loadtest.closedloop import ClosedLoad
from loadtest.job import Expectation, Job
from loadtest.job import job as make_job
from loadtest.peers.http import Server

HELLO = make_job("hello", {"language": "python"}, Expectation(exit_code=0, stdout="1\n"))


def pick(_: int) -> Job:
    return HELLO


async def test_every_client_is_kept_busy_and_no_more(fake: FakeService, server: Server) -> None:
    fake.delay = 0.002
    load = ClosedLoad(clients=5, seconds=30.0, max_jobs=50)
    measured = await closedloop.measure(server.connect, pick, load)
    assert (measured.ok, measured.samples, measured.errors) == (50, 50, {})
    assert (fake.served, fake.most_in_flight, fake.connections) == (50, 5, 5)
    assert measured.percentile_ms(50) >= 2.0
    assert measured.cpu["generator"] > 0


async def test_time_ends_it_too(fake: FakeService, server: Server) -> None:
    fake.delay = 0.01
    load = ClosedLoad(clients=2, seconds=0.1)
    measured = await closedloop.measure(server.connect, pick, load)
    assert 0 < measured.ok == fake.served <= 20
    assert measured.seconds >= 0.1


async def test_a_single_wrong_answer_among_many_is_found(fake: FakeService, server: Server) -> None:
    fake.answer = lambda request: (
        hello(request) if fake.served != 17 else (200, hello(request)[1] | {"stdout": "0\n"})
    )
    load = ClosedLoad(clients=3, seconds=30.0, max_jobs=40)
    measured = await closedloop.measure(server.connect, pick, load)
    assert (measured.ok, measured.errors) == (39, {"wrong_stdout": 1})
    assert '"0\\n"' in measured.examples["wrong_stdout"]


async def test_refusals_are_counted_and_do_not_make_it_faster(
    fake: FakeService, server: Server
) -> None:
    fake.answer = lambda _: (429, {"code": "queue_full"})
    load = ClosedLoad(clients=1, seconds=30.0, max_jobs=10)
    measured = await closedloop.measure(server.connect, pick, load)
    assert (measured.ok, measured.per_second, measured.samples) == (0, 0.0, 0)
    assert measured.errors == {"http_429": 10}
