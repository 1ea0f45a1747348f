"""Any order of transitions, against a model in plain Python.

The model says what each call must answer and which result, if any, each job has. What it checks in
the end: an accepted job has exactly one terminal result, an overtaken attempt never wins, and no
claim exceeds its reservations.
"""

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from sandboxd.errors import QueueFull, QuotaExceeded
from sandboxd.model import Job, Lease, Limits, NodeRecord, Result, RunRequest, RunState, Status
from sandboxd.queue import CancelOutcome, Queue
from sandboxd.settings import load

LEASE, LENGTH, QUOTA = 10_000, 6, 8
NODES = st.sampled_from(["n1", "n2"])


@dataclass
class Model:
    """One job as it must be."""

    job: Job
    place: int
    state: RunState = RunState.QUEUED
    node: str | None = None
    attempt: int = 0
    losses: int = 0
    expires: int = 0
    cancel: bool = False
    end: str | None = None
    completed: int = 0
    """The attempt that completed it; 0 if none did."""
    states: list[str] = field(default_factory=lambda: ["queued"])

    def is_held_by(self, lease: Lease) -> bool:
        return (self.node, self.attempt) == (lease.node, lease.attempt)

    def become(self, state: RunState, event: str) -> None:
        self.state = state
        self.states.append(event)

    def requeue(self) -> None:
        self.become(RunState.QUEUED, "requeued")
        self.node = None

    def finish(self, end: str) -> None:
        self.become(RunState.FINISHED, "finished")
        self.end = end

    def lose(self) -> bool:
        if self.cancel:
            self.finish("cancelled")
            return False
        self.losses += 1
        safe = self.job.request.retry == "safe"
        if self.losses < (10 if self.state is RunState.LEASED else 3 if safe else 1):
            self.requeue()
            return True
        self.finish("internal_error")
        return False


def record(node: str) -> NodeRecord:
    return NodeRecord(
        id=node, address="unix:/nowhere", started_at="", version="0", isolation=[], languages=[],
        cpu_capacity=1, cpu_reserved=0, memory_capacity=1, memory_reserved=0, pools={}, running=0,
    )  # fmt: skip


class Machine(RuleBasedStateMachine):
    url = ""
    jobs = Bundle("jobs")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        flags = [
            f"redis.url={self.url}",
            f"instance=m{uuid4().hex[:12]}",
            f"queue.lease={LEASE / 1000}",
            f"queue.max_length={LENGTH}",
            f"gateway.tenant_max_jobs={QUOTA}",
        ]
        self.now = 1_000_000
        self.queue = Queue(load(environ={}, flags=flags), clock=lambda: self.now)
        self.numbers = itertools.count(1)
        self.models: dict[str, Model] = {}
        self.replies: dict[str, list[str]] = {}
        self.announced: set[str] = set()
        self.absent: dict[str, int] = {}
        """When a node with jobs of its own was first seen to be silent."""
        self.reaped: int | None = None

    def run(self, call: Any) -> Any:
        return self.runner.run(call)

    def waiting_for(self, node: str) -> list[Model]:
        return [m for m in self.in_state(RunState.QUEUED) if m.job.node in (None, node)]

    def in_state(self, *states: RunState) -> list[Model]:
        found = [model for model in self.models.values() if model.state in states]
        return sorted(found, key=lambda model: model.place)

    @rule(target=jobs, cpu=st.integers(0, 3), memory=st.integers(0, 3), safe=st.booleans(),
          node=st.none() | NODES)  # fmt: skip
    def submit(self, cpu: int, memory: int, safe: bool, node: str | None) -> Any:
        number = next(self.numbers)
        request = RunRequest(language="c", source="", retry="safe" if safe else "never")
        job = Job(
            id=f"run_{number}", tenant="t", request=request, template="default", limits=Limits(),
            created_at="2026-01-01T00:00:00Z", reply_to="g", reserve_cpu=cpu, reserve_memory=memory,
            node=node,
        )  # fmt: skip
        if len(self.in_state(RunState.QUEUED)) >= LENGTH:
            with pytest.raises(QueueFull):
                self.run(self.queue.submit(job))
            return multiple()
        if sum(model.end is None for model in self.models.values()) >= QUOTA:
            with pytest.raises(QuotaExceeded):
                self.run(self.queue.submit(job))
            return multiple()
        assert self.run(self.queue.submit(job)) == job.id
        self.models[job.id] = Model(job, number)
        return job

    @rule(job=jobs)
    def submit_again(self, job: Job) -> None:
        assert self.run(self.queue.submit(job)) == job.id

    @rule(target=leases, node=NODES, jobs=st.integers(0, 4), cpu=st.integers(0, 5),
          memory=st.integers(0, 5))  # fmt: skip
    def claim(self, node: str, jobs: int, cpu: int, memory: int) -> Any:
        leases = self.run(self.queue.claim(node, jobs=jobs, cpu=cpu, memory=memory))
        assert sum(lease.job.reserve_cpu for lease in leases) <= cpu
        assert sum(lease.job.reserve_memory for lease in leases) <= memory
        expected = []
        for model in self.waiting_for(node)[:jobs]:
            cpu, memory = cpu - model.job.reserve_cpu, memory - model.job.reserve_memory
            if cpu < 0 or memory < 0:
                break
            model.become(RunState.LEASED, "leased")
            model.node, model.attempt = node, model.attempt + 1
            model.expires = self.now + LEASE
            expected.append(Lease(job=model.job, attempt=model.attempt, node=node))
        assert leases == expected
        return multiple(*leases)

    @rule(lease=leases)
    def start(self, lease: Lease) -> None:
        model = self.models[lease.job.id]
        held = model.is_held_by(lease)
        expected = held and model.state in (RunState.LEASED, RunState.STARTED)
        assert self.run(self.queue.start(lease)) is expected
        if held and model.state is RunState.LEASED:
            model.become(RunState.STARTED, "started")
            model.expires = self.now + LEASE

    @rule(lease=leases, status=st.sampled_from([Status.OK, Status.SIGNALLED]))
    def complete(self, lease: Lease, status: Status) -> None:
        model = self.models[lease.job.id]
        running = model.state in (RunState.LEASED, RunState.STARTED)
        won = model.is_held_by(lease) and (running or model.completed == lease.attempt)
        result = Result(id=lease.job.id, status=status)
        assert self.run(self.queue.complete(lease, result)) is won
        if won and running:
            model.finish(status)
            model.completed = lease.attempt

    @rule(lease=leases)
    def release(self, lease: Lease) -> None:
        model = self.models[lease.job.id]
        leased = model.is_held_by(lease) and model.state is RunState.LEASED
        waiting = model.state is RunState.QUEUED and model.attempt == lease.attempt
        assert self.run(self.queue.release(lease)) is (leased or waiting)
        if leased:
            model.requeue()

    @rule(node=NODES, leases=st.lists(leases, max_size=4))
    def renew(self, node: str, leases: list[Lease]) -> None:
        gone = self.run(self.queue.renew(node, [(each.job.id, each.attempt) for each in leases]))
        for lease in leases:
            model = self.models[lease.job.id]
            alive = (model.node, model.attempt) == (node, lease.attempt) and model.end is None
            if alive:
                model.expires = self.now + LEASE
            else:
                assert lease.job.id in gone
        kept = {each.job.id for each in leases} - gone
        assert all(self.models[job_id].node == node for job_id in kept)

    @rule(job=jobs)
    def cancel(self, job: Job) -> None:
        model = self.models[job.id]
        outcome = self.run(self.queue.cancel(job.id))
        if model.state is RunState.FINISHED:
            assert outcome is CancelOutcome.FINISHED
        elif model.state is RunState.STARTED:
            assert outcome is CancelOutcome.REQUESTED
            if not model.cancel:
                model.states.append("cancel_requested")
            model.cancel = True
        else:
            assert outcome is CancelOutcome.CANCELLED
            model.finish("cancelled")

    @rule(node=NODES)
    def recover(self, node: str) -> None:
        self.announced.discard(node)
        held = [m for m in self.in_state(RunState.LEASED, RunState.STARTED) if m.node == node]
        outcomes = [model.lose() for model in held]
        expected = (sum(outcomes), len(outcomes) - sum(outcomes))
        assert self.run(self.queue.recover(node)) == expected

    @rule(milliseconds=st.integers(0, 2 * LEASE))
    def reap_later(self, milliseconds: int) -> None:
        self.now += milliseconds
        paused = self.reaped is not None and 3 * (self.now - self.reaped) > 2 * LEASE
        self.reaped = self.now
        if paused:
            assert self.run(self.queue.reap()) == (0, 0)
            return
        running = self.in_state(RunState.LEASED, RunState.STARTED)
        outcomes = [model.lose() for model in running if model.expires <= self.now]
        requeued, lost = sum(outcomes), len(outcomes) - sum(outcomes)
        for model in self.in_state(RunState.QUEUED):
            node = model.job.node
            if node is None or node in self.announced:
                continue
            if self.now - self.absent.setdefault(node, self.now) >= 4 * LEASE:
                model.finish("internal_error")
                lost += 1
        assert self.run(self.queue.reap()) == (requeued, lost)

    @rule(node=NODES)
    def announce(self, node: str) -> None:
        self.run(self.queue.announce(record(node), 1000))
        self.announced.add(node)
        self.absent.pop(node, None)

    @invariant()
    def every_ended_job_was_answered_once(self) -> None:
        ended = {job_id: [m.end] for job_id, m in self.models.items() if m.end}
        if len(self.replies) < len(ended):
            for result in self.run(self.queue.replies("g", 10)):
                self.replies.setdefault(result.id, []).append(result.status)
        assert self.replies == ended

    @invariant()
    def counts_agree(self) -> None:
        stats = self.run(self.queue.stats())
        assert stats.queued == len(self.in_state(RunState.QUEUED))
        assert stats.leased == len(self.in_state(RunState.LEASED))
        assert stats.started == len(self.in_state(RunState.STARTED))
        assert stats.submitted == len(self.models)
        assert stats.finished == len(self.in_state(RunState.FINISHED))

    def teardown(self) -> None:
        self.run(self._check_records())
        self.run(self.queue.close())
        self.runner.close()

    async def _check_records(self) -> None:
        for job_id, model in self.models.items():
            found = await self.queue.record(job_id)
            assert found is not None
            record = found[1]
            assert (record.state, record.attempt) == (model.state, model.attempt)
            assert (record.result.status if record.result else None) == model.end
            events = await self.queue.events(job_id)
            assert [event.type for event in events] == model.states


def test_every_order_of_transitions_gives_one_result_per_job(redis_url: str) -> None:
    bound = type("BoundMachine", (Machine,), {"url": redis_url})
    run_state_machine_as_test(
        bound,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
