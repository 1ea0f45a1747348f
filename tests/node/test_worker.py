"""The worker between a queue and a pool that are both pretended: what becomes of every job."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from sandboxd import policy
from sandboxd.errors import DriverFault, Unavailable
from sandboxd.model import RunRequest, Status
from sandboxd.node import worker as worker_module
from sandboxd.node.capacity import Capacity
from sandboxd.node.pool import Pool
from sandboxd.node.worker import Worker
from sandboxd.settings import Settings
from tests.node.fake_queue import FakeExecution, FakeQueue, job
from tests.node.fakes import FakeDriver, spec

NODE = "n1"
POLICIES = policy.load(Settings().policy_path)


@pytest.fixture
def executions(monkeypatch: pytest.MonkeyPatch) -> type[FakeExecution]:
    FakeExecution.made, FakeExecution.gates_open, FakeExecution.fault = {}, True, None
    monkeypatch.setattr(worker_module, "Execution", FakeExecution)
    monkeypatch.setattr(worker_module, "_RETRY_FIRST", 0.001)
    return FakeExecution


class Bench:
    def __init__(self) -> None:
        self.driver, self.queue = FakeDriver(), FakeQueue()
        self.pool = Pool(self.driver, concurrency=2, max_age=600.0)
        self.pool.stock(spec(), 0)
        self.worker = Worker(
            self.queue,  # type: ignore[arg-type]
            self.pool,
            POLICIES,
            Capacity(cpu=3000, memory=1000),
            node=NODE,
            lease=0.06,
            collect_max=0,
        )

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)

    async def finished(self, *names: str) -> None:
        await self.until(lambda: self.queue.results.keys() >= set(names))
        await self.until(lambda: self.worker.running == 0)


@pytest.fixture
async def bench(executions: type[FakeExecution]) -> AsyncIterator[Bench]:
    bench = Bench()
    running = asyncio.create_task(bench.worker.run())
    yield bench
    bench.driver.gate.set()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await bench.worker.drain(5.0)
    await bench.pool.close()
    assert bench.driver.alive == {}
    assert (bench.worker.capacity.cpu_reserved, bench.worker.capacity.memory_reserved) == (0, 0)
    assert bench.worker.live == {} and bench.worker.running == 0


async def test_job_is_started_before_it_runs_and_completed_once(bench: Bench) -> None:
    bench.queue.submit(job("a"))
    await bench.finished("a")
    assert bench.queue.transitions("a") == ["start", "complete"]
    assert bench.queue.results["a"].status is Status.OK
    assert bench.worker.finished == {"ok": 1}


async def test_job_that_may_not_start_is_not_run(
    bench: Bench, executions: type[FakeExecution]
) -> None:
    """Cancelled, or another's: the fence of the queue decides."""
    bench.queue.refused = {"start"}
    bench.queue.submit(job("a"))
    await bench.until(lambda: "a" in executions.made and bench.worker.running == 0)
    assert executions.made["a"].started_with is None
    assert bench.queue.results == {}
    bench.queue.refused = set()
    bench.queue.submit(job("b"))
    await bench.finished("b")


async def test_client_of_a_job_that_may_not_start_is_let_go(
    bench: Bench, executions: type[FakeExecution]
) -> None:
    bench.queue.refused = {"start"}
    bench.queue.submit(job("a"))
    await bench.until(lambda: "a" in executions.made and bench.worker.running == 0)
    assert executions.made["a"].live.result.cancelled()
    assert await executions.made["a"].live.attach() is None


async def test_nothing_is_asked_for_when_nothing_was_left_waiting(bench: Bench) -> None:
    """The queue wakes the node for the next job; a claim after each would be in vain."""
    bench.queue.submit(job("a"))
    await bench.finished("a")
    asked = len(bench.queue.offers)
    bench.queue.submit(job("b"))
    await bench.finished("b")
    await asyncio.sleep(0.02)
    assert len(bench.queue.offers) == asked + 1


async def test_room_that_comes_while_a_claim_is_under_way_is_offered(
    bench: Bench, executions: type[FakeExecution]
) -> None:
    """Its answer says that jobs were left, of a capacity that has grown since."""
    executions.gates_open = False
    bench.queue.submit(job("a"), job("b"), job("c"))
    await bench.until(lambda: len(executions.made) == 3)
    executions.made["a"].open()
    await bench.until(lambda: "a" in bench.queue.results)
    bench.queue.slow = asyncio.Event()
    offers = len(bench.queue.offers)
    bench.queue.submit(job("d"), job("e"))
    await bench.until(lambda: len(bench.queue.offers) > offers)
    executions.made["b"].open()
    await bench.until(lambda: "b" in bench.queue.results)
    bench.queue.slow.set()
    bench.queue.slow = None
    await bench.until(lambda: {"d", "e"} <= executions.made.keys())
    for name in ("c", "d", "e"):
        executions.made[name].open()
    await bench.finished("a", "b", "c", "d", "e")


async def test_no_more_is_claimed_than_capacity_allows(
    bench: Bench, executions: type[FakeExecution]
) -> None:
    executions.gates_open = False
    bench.queue.submit(*(job(str(number)) for number in range(5)))
    await bench.until(lambda: len(executions.made) == 3)
    await asyncio.sleep(0.02)
    assert len(executions.made) == 3
    assert bench.worker.capacity.cpu_free == 0
    assert all(cpu > 0 and memory > 0 for cpu, memory in bench.queue.offers)
    for number in range(5):
        await bench.until(lambda number=number: str(number) in executions.made)  # type: ignore[misc]
        executions.made[str(number)].open()
    await bench.finished(*map(str, range(5)))


async def test_job_whose_sandbox_cannot_be_built_goes_back_then_fails(bench: Bench) -> None:
    bench.driver.fail = 3
    bench.queue.submit(job("a"))
    await bench.finished("a")
    assert bench.queue.transitions("a") == ["release", "release", "start", "complete"]
    result = bench.queue.results["a"]
    assert result.status is Status.INTERNAL_ERROR and "as told" in (result.reason or "")


async def test_job_whose_sandbox_could_be_built_later_succeeds(bench: Bench) -> None:
    bench.driver.fail = 1
    bench.queue.submit(job("a"))
    await bench.finished("a")
    assert bench.queue.transitions("a") == ["release", "start", "complete"]
    assert bench.queue.results["a"].status is Status.OK


@pytest.mark.parametrize(
    "changes",
    [
        {"template": "nowhere"},
        {"request": RunRequest(language="unknown", source="")},
    ],
)
async def test_job_that_this_node_does_not_know_goes_back_then_fails(
    bench: Bench, changes: dict[str, object]
) -> None:
    bench.queue.submit(job("a", **changes))
    await bench.finished("a")
    assert bench.queue.transitions("a") == ["release", "release", "start", "complete"]
    assert bench.queue.results["a"].status is Status.INTERNAL_ERROR


async def test_fault_while_it_runs_is_an_internal_error(
    bench: Bench, executions: type[FakeExecution]
) -> None:
    executions.fault = DriverFault("fake", "run", "broke")
    bench.queue.submit(job("a"))
    await bench.finished("a")
    result = bench.queue.results["a"]
    assert (result.status, result.reason) == (Status.INTERNAL_ERROR, "fake: run: broke")


async def test_cancel_reaches_the_running_job_alone(
    bench: Bench, executions: type[FakeExecution]
) -> None:
    executions.gates_open = False
    bench.queue.submit(job("a"), job("b"))
    await bench.until(lambda: len(executions.made) == 2)
    bench.queue.cancel("a")
    bench.queue.cancel("unknown")
    await bench.until(lambda: "a" in bench.queue.results)
    assert bench.queue.results["a"].status is Status.CANCELLED
    executions.made["b"].open()
    await bench.finished("a", "b")
    assert bench.queue.results["b"].status is Status.OK


async def test_completion_insists_until_the_queue_answers(bench: Bench) -> None:
    bench.queue.out_of_reach = 7
    bench.queue.submit(job("a"))
    await bench.finished("a")
    assert bench.queue.transitions("a") == ["start", "complete"]


async def test_held_leases_are_renewed_until_the_end(
    bench: Bench, executions: type[FakeExecution]
) -> None:
    executions.gates_open = False
    bench.queue.submit(job("a"))
    await bench.until(lambda: bench.queue.log.count(("renew", "a", 1)) >= 2)
    executions.made["a"].open()
    await bench.finished("a")
    renewed = bench.queue.log.count(("renew", "a", 1))
    await asyncio.sleep(0.05)
    assert bench.queue.log.count(("renew", "a", 1)) == renewed


async def test_a_renewal_that_failed_is_tried_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a third of the lease, one slow answer and another third it would be too late."""
    bench, pauses, turn = Bench(), list[float](), asyncio.sleep
    bench.worker._lease = 30.0

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await turn(0)

    async def reap() -> tuple[int, int]:
        if len(pauses) < 4:
            raise Unavailable("as told")
        return 0, 0

    monkeypatch.setattr(bench.queue, "reap", reap)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    renewing = asyncio.create_task(bench.worker._renew())
    while len(pauses) < 6:
        await turn(0)
    renewing.cancel()
    assert pauses[:6] == [10.0, 0.05, 0.1, 0.2, 10.0, 10.0]
    await bench.pool.close()


async def test_job_whose_lease_was_lost_is_ended(
    bench: Bench, executions: type[FakeExecution]
) -> None:
    executions.gates_open = False
    bench.queue.lost = {"a"}
    bench.queue.refused = {"complete"}
    bench.queue.submit(job("a"))
    await bench.until(lambda: bench.queue.transitions("a") == ["start"])
    await bench.until(lambda: bench.worker.running == 0)
    assert bench.queue.results == {}


async def test_job_that_was_lost_and_came_back_ends_once_though_both_are_here(
    bench: Bench, executions: type[FakeExecution]
) -> None:
    """The first attempt's end must not take the second one's place from it."""
    executions.gates_open = False
    bench.queue.submit(job("a"))
    await bench.until(lambda: bench.queue.transitions("a") == ["start"])
    first = executions.made["a"]
    bench.queue.submit(job("a"))
    await bench.until(lambda: bench.queue.transitions("a") == ["start", "start"])
    bench.queue.refused = {"complete"}
    first.open()
    await bench.until(lambda: first.live.result.done())
    await asyncio.sleep(0.01)
    bench.queue.refused = set()
    assert bench.worker.live["a"] is executions.made["a"].live is not first.live
    executions.made["a"].open()
    await bench.finished("a")


async def test_drain_lets_jobs_end_and_claims_no_more(
    bench: Bench, executions: type[FakeExecution]
) -> None:
    executions.gates_open = False
    bench.queue.submit(job("a"))
    await bench.until(lambda: "a" in executions.made)
    draining = asyncio.create_task(bench.worker.drain(20.0))
    await asyncio.sleep(0)
    bench.queue.submit(job("late"))
    await asyncio.sleep(0.02)
    executions.made["a"].open()
    await draining
    assert bench.queue.results["a"].status is Status.OK
    assert "late" not in executions.made and bench.queue.waiting


async def test_a_job_that_was_handed_over_runs_as_one_that_was_claimed(bench: Bench) -> None:
    bench.queue.hand_over(job("a"))
    await bench.finished("a")
    assert bench.queue.transitions("a") == ["start", "complete"]
    assert bench.queue.offers[-1] == (2000, 900), "and the node claims beside it"


async def test_the_start_of_a_handed_job_goes_out_before_the_next_claim(bench: Bench) -> None:
    bench.pool.stock(spec(), 1)
    await bench.until(lambda: sum(bench.pool.warm().values()) == 1)
    await bench.until(lambda: bench.queue.asked[-2:] == ["wait", "claim"])
    before = len(bench.queue.asked)
    bench.queue.hand_over(job("a"))
    await bench.finished("a")
    assert bench.queue.asked[before] == "start"
    assert {"wait", "claim"} <= set(bench.queue.asked[before:])


async def test_a_job_that_was_handed_over_and_no_longer_fits_goes_back(
    bench: Bench, executions: type[FakeExecution]
) -> None:
    executions.gates_open = False
    bench.queue.submit(job("a", reserve_cpu=2500))
    await bench.until(lambda: bench.worker.running == 1)
    bench.queue.hand_over(job("b"))
    await bench.until(lambda: bench.queue.transitions("b"))
    assert bench.queue.transitions("b") == ["release"]
    executions.gates_open = True
    executions.made["a"].open()
    await bench.finished("a", "b")
    assert bench.queue.transitions("b") == ["release", "start", "complete"]


async def test_a_node_that_drains_withdraws_and_gives_back_what_it_was_handed(
    bench: Bench, executions: type[FakeExecution]
) -> None:
    executions.gates_open = False
    bench.queue.submit(job("a"))
    await bench.until(lambda: bench.worker.running == 1)
    draining = asyncio.create_task(bench.worker.drain(20.0))
    await bench.until(lambda: bench.queue.withdrawn)
    bench.queue.hand_over(job("b"))
    await bench.until(lambda: bench.queue.transitions("b"))
    assert bench.queue.transitions("b") == ["release"]
    executions.made["a"].open()
    await draining


async def test_drain_cancels_what_does_not_end_in_time(
    bench: Bench, executions: type[FakeExecution]
) -> None:
    executions.gates_open = False
    bench.queue.submit(job("a"))
    await bench.until(lambda: bench.queue.transitions("a") == ["start"])
    await bench.worker.drain(0.02)
    assert bench.queue.results["a"].status is Status.CANCELLED
