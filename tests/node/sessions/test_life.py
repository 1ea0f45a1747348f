"""Creation, ownership, time, pauses, limits and the end of open sandboxes."""

import asyncio
import time

import pytest

from sandboxd.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    Overload,
    SandboxEnded,
    UnknownImage,
    UnknownTemplate,
)
from sandboxd.model import agent
from sandboxd.model.agent import Kind, message
from sandboxd.model.session import (
    EndReason,
    Process,
    ProcessState,
    Sandbox,
    SandboxRequest,
    SandboxState,
    SessionLimits,
)
from tests.node.bench import MIB
from tests.node.sessions.conftest import Node
from tests.node.sessions.gateway import TENANT, Box, Gateway, name

pytestmark = pytest.mark.root


async def _over(node: Node, box: Box) -> Sandbox:
    """The record in the directory, once it says that it ended."""
    while True:
        entry = await node.directory.find(TENANT, box.id)
        assert entry is not None
        if entry.sandbox.end is not None:
            return entry.sandbox
        await asyncio.sleep(0.01)


async def test_a_new_sandbox_is_in_the_directory_before_it_is_answered(node: Node) -> None:
    box = await node.gateway.create(metadata={"a": "b"}, key="k")
    entry = await node.directory.find(TENANT, box.id)
    assert entry is not None
    assert entry.sandbox == box.sandbox
    assert (box.sandbox.state, box.sandbox.key) == (SandboxState.RUNNING, "k")
    assert {"userns", "seccomp", "landlock"} <= set(box.sandbox.isolation)
    assert (await box.get()).id == box.id


async def test_the_same_creation_again_is_the_same_sandbox(gateway: Gateway) -> None:
    call = agent.Create(
        tenant=TENANT, sandbox=name("sbx"), request=SandboxRequest(), limits=SessionLimits()
    )

    async def create() -> Sandbox:
        async with gateway.line() as line:
            found: Sandbox = await line.call(call, Sandbox)
            return found

    made = await asyncio.gather(*(create() for _ in range(4)))
    assert len({(sandbox.id, sandbox.created_at) for sandbox in made}) == 1


async def test_an_id_is_one_sandbox_for_ever(node: Node, box: Box) -> None:
    """A creation that comes again when its sandbox has ended makes no second one of that name."""
    await box.ask(agent.Kill, Sandbox)
    await _over(node, box)
    call = box.fill(agent.Create, request=SandboxRequest(), limits=SessionLimits())
    async with node.gateway.line() as line:
        with pytest.raises(Conflict):
            await line.call(call, Sandbox)
    assert (await box.get()).end is not None
    assert (await _over(node, box)).end is not None


async def test_what_cannot_be_created_says_why(gateway: Gateway) -> None:
    for fields, error in (
        ({"template": "none"}, UnknownTemplate),
        ({"template": "default"}, UnknownTemplate),
        ({"image": "none"}, UnknownImage),
        ({"network": "web"}, InvalidRequest),
    ):
        with pytest.raises(error):
            await gateway.create(**fields)


async def test_another_tenants_sandbox_is_not_found_whatever_is_asked(
    gateway: Gateway, box: Box
) -> None:
    process = await box.start("sleep", "60")
    asked: list[agent.Call] = [
        agent.Get(tenant="other", sandbox=box.id),
        agent.Kill(tenant="other", sandbox=box.id),
        agent.Metrics(tenant="other", sandbox=box.id),
        agent.Signal(tenant="other", sandbox=box.id, process=process.id, signal=9),
        agent.Attach(tenant="other", sandbox=box.id, process=process.id),
        agent.ReadFile(tenant="other", sandbox=box.id, path=b"/etc/passwd"),
        agent.WriteFile(tenant="other", sandbox=box.id, path=b"x"),
        agent.Watch(tenant="other", sandbox=box.id, path=b"/"),
        agent.Fork(tenant="other", sandbox=box.id, children=["x"]),
        agent.Create(
            tenant="other", sandbox=box.id, request=SandboxRequest(), limits=SessionLimits()
        ),
    ]
    async with gateway.line() as line:
        for call in asked:
            with pytest.raises(NotFound):
                await line.call(call, Sandbox)
    assert (await box.get()).state is SandboxState.RUNNING


async def test_an_ended_sandbox_says_why_and_when(node: Node, box: Box) -> None:
    started = time.monotonic()
    record = await box.kill()
    assert record.state is SandboxState.ENDED
    assert record.end is not None
    assert record.end.reason is EndReason.KILLED
    assert time.monotonic() - started < 5
    assert (await box.get()).end == record.end
    assert (await box.kill()).end == record.end
    with pytest.raises(SandboxEnded):
        await box.run("true")
    assert (await _over(node, box)).end == record.end
    events = await node.directory.events(TENANT)
    assert [event.type for event in events] == ["created", "ended"]


async def test_running_commands_end_with_their_sandbox(gateway: Gateway, box: Box) -> None:
    running = asyncio.create_task(box.run("sleep", "60"))
    await asyncio.sleep(0.1)
    await box.kill()
    result = await running
    assert (result.process.state, result.process.signal) == (ProcessState.EXITED, "SIGKILL")


async def test_time_to_live_ends_it_and_can_be_extended(node: Node) -> None:
    box = await node.gateway.create(timeout=1.5)
    await asyncio.sleep(0.8)
    await box.ask(agent.Extend, Sandbox, timeout=2.5)
    await asyncio.sleep(1.0)
    assert (await box.get()).state is SandboxState.RUNNING
    end = (await _over(node, box)).end
    assert end is not None
    assert end.reason is EndReason.TIMEOUT


async def test_idle_time_counts_only_while_nothing_is_asked(node: Node) -> None:
    box = await node.gateway.create(idle_timeout=1.0)
    await box.run("sleep", "1.5")
    for _ in range(4):
        await asyncio.sleep(0.4)
        await box.stat(".")
    end = (await _over(node, box)).end
    assert end is not None
    assert end.reason is EndReason.IDLE_TIMEOUT


async def test_time_pauses_instead_where_that_is_wanted_and_a_request_wakes_it(node: Node) -> None:
    box = await node.gateway.create(timeout=0.2, on_timeout="pause")
    await box.sh("echo kept > f")
    while (await box.get()).state is not SandboxState.PAUSED:
        await asyncio.sleep(0.02)
    found = await node.directory.find(TENANT, box.id)
    while found is not None and found.sandbox.state is not SandboxState.PAUSED:
        await asyncio.sleep(0.01)
        found = await node.directory.find(TENANT, box.id)
    assert await box.read("f") == b"kept\n"
    assert (await box.get()).state in (SandboxState.RUNNING, SandboxState.PAUSED)


async def test_paused_processes_stand_still_and_go_on(box: Box) -> None:
    script = "i=0; while true; do i=$((i+1)); echo $i > n; done"
    process = await box.start("/bin/sh", "-c", script)
    await asyncio.sleep(0.1)
    started = time.monotonic()
    paused = await box.ask(agent.Pause, Sandbox)
    assert time.monotonic() - started < 5
    assert (paused.state, paused.paused_at is not None) == (SandboxState.PAUSED, True)
    before = (await box.metrics()).cpu_time
    await asyncio.sleep(0.2)
    assert (await box.metrics()).cpu_time == before
    inspected = await box.ask(agent.Inspect, Process, process=process.id)
    assert inspected.state is ProcessState.RUNNING
    resumed = await box.ask(agent.Resume, Sandbox)
    assert (resumed.state, resumed.paused_at) == (SandboxState.RUNNING, None)
    while (await box.metrics()).cpu_time == before:
        await asyncio.sleep(0.01)
    assert (await box.ask(agent.Resume, Sandbox)).state is SandboxState.RUNNING


async def test_a_pause_that_lasts_gives_memory_back_and_one_that_does_not_keeps_it(
    node: Node, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = node.registry.find(TENANT, box.id)
    reclaimed: list[bool] = []
    monkeypatch.setattr(
        type(session.built.group), "reclaim", lambda _, *, swap: reclaimed.append(swap)
    )
    monkeypatch.setattr("sandboxd.node.sessions.session._RECLAIM_AFTER", 0.2)
    await box.ask(agent.Pause, Sandbox)
    await box.sh("true")  # which wakes it
    await asyncio.sleep(0.4)
    assert reclaimed == []
    await box.ask(agent.Pause, Sandbox)
    await asyncio.sleep(0.4)
    assert reclaimed == [False], "to swap only where the operator wants it"


async def test_a_pause_whose_client_leaves_is_whole_or_not_at_all(
    gateway: Gateway, box: Box
) -> None:
    process = await box.start("/bin/sh", "-c", "while true; do :; done")
    for i in range(20):
        async with gateway.line() as line:
            await line.send(message(Kind.CALL, box.fill(agent.Pause)))
            await asyncio.sleep(0.0005 * (i % 4))
        await asyncio.sleep(0.02)
        before = (await box.metrics()).cpu_time
        while (await box.metrics()).cpu_time == before:
            if (await box.get()).state is SandboxState.PAUSED:  # it may take effect late
                await box.ask(agent.Resume, Sandbox)
            await asyncio.sleep(0.01)
    assert (await box.ask(agent.Inspect, Process, process=process.id)).state == "running"


async def test_whatever_is_asked_while_it_ends_is_answered(gateway: Gateway) -> None:
    """And no thread of ours uses a descriptor that is another's by then."""
    for _ in range(4):
        box = await gateway.create()
        asking = [asyncio.create_task(box.metrics()) for _ in range(10)]
        asking += [asyncio.create_task(box.ask(agent.Pause, Sandbox)) for _ in range(3)]  # type: ignore[list-item]
        asking += [asyncio.create_task(box.run("true")) for _ in range(3)]  # type: ignore[list-item]
        await asyncio.sleep(0.002)
        await box.kill()
        for outcome in await asyncio.gather(*asking, return_exceptions=True):
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, SandboxEnded | Conflict | NotFound | Overload), outcome


async def test_a_paused_sandbox_can_be_killed(node: Node, box: Box) -> None:
    await box.ask(agent.Pause, Sandbox)
    assert (await box.kill()).state is SandboxState.ENDED


async def test_limits_are_changed_while_it_lives(gateway: Gateway) -> None:
    box = await gateway.create(limits=SessionLimits(memory=64 * MIB, pids=10, cpus=0.5))
    limits = (await box.get()).limits
    assert (limits.memory, limits.pids, limits.cpus) == (64 * MIB, 10, 0.5)
    metrics = await box.metrics()
    assert (metrics.memory_limit, metrics.pids_limit) == (64 * MIB, 10)
    eat = "x = bytearray(100 << 20); print('ate')"
    assert (await box.run("/usr/bin/python3", "-IS", "-c", eat)).process.signal == "SIGKILL"
    assert (await box.get()).state is SandboxState.RUNNING, "one process died, not the sandbox"
    more = SessionLimits(memory=180 * MIB, disk=100 * MIB)
    changed = await box.ask(agent.Update, Sandbox, limits=more, metadata={"x": "y"})
    assert (changed.limits.memory, changed.limits.pids) == (180 * MIB, 10)
    assert changed.metadata == {"x": "y"}
    assert (await box.run("/usr/bin/python3", "-IS", "-c", eat)).stdout == b"ate\n"
    assert (await box.metrics()).disk_limit == 100 * MIB
    await box.sh("head -c 90000000 /dev/zero > f")
    with pytest.raises(Conflict):
        await box.ask(agent.Update, Sandbox, limits=SessionLimits(disk=10 * MIB))
    with pytest.raises(Conflict):
        await box.ask(agent.Update, Sandbox, limits=SessionLimits(memory=20 * MIB))
    assert await box.sh("echo on") == b"on\n"


async def test_metrics_say_what_it_uses(box: Box) -> None:
    await box.sh("head -c 5000000 /dev/zero > f")
    process = await box.start("sleep", "60")
    metrics = await box.metrics()
    assert metrics.cpu_time > 0
    assert 5_000_000 < metrics.memory <= metrics.memory_limit
    assert 5_000_000 <= metrics.disk < metrics.disk_limit
    assert metrics.processes == 1
    assert process.state is ProcessState.RUNNING


async def test_an_init_that_dies_is_told(node: Node, box: Box) -> None:
    session = node.registry.find(TENANT, box.id)
    session._end_init()
    end = (await _over(node, box)).end
    assert end is not None
    assert end.reason is EndReason.CRASHED


async def test_sandboxes_end_honestly_when_the_node_stops_and_others_of_it_are_lost(
    node: Node,
) -> None:
    box = await node.gateway.create()
    ghost = await node.gateway.create()
    session = node.registry._live.pop(ghost.id)  # as if an earlier node had had it
    watching = asyncio.create_task(node.registry.run())
    assert (await _over(node, ghost)).end is not None
    watching.cancel()
    node.registry._live[ghost.id] = session
    await node.registry.end_all(EndReason.NODE_STOPPED)
    end = (await _over(node, box)).end
    assert end is not None
    assert end.reason is EndReason.NODE_STOPPED
    lost = await node.directory.find(TENANT, ghost.id)
    assert lost is not None
    assert lost.sandbox.end is not None
    assert lost.sandbox.end.reason is EndReason.NODE_LOST
    with pytest.raises(Overload):
        await node.gateway.create()


async def test_garbage_from_the_gateway_ends_the_connection_alone(
    gateway: Gateway, box: Box
) -> None:
    for garbage in (b"\x20\xff\xff\xff\xff", b"\xff" * 64, message(Kind.REPLY, {})):
        async with gateway.line() as line:
            await line.send(garbage)
            with pytest.raises((EOFError, ConnectionError)):
                await line.next()
    async with gateway.line() as line:
        await line.send(message(Kind.CALL, {"call": "Get", "tenant": TENANT}))
        with pytest.raises(InvalidRequest):
            await line.next()
        assert (await line.call(box.fill(agent.Get), Sandbox)).id == box.id
