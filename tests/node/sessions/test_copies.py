"""Forks and snapshots: the files of one instant, and nothing else."""

import asyncio

import pytest

from sandboxd.errors import Conflict, NotFound, UnknownImage
from sandboxd.model import agent
from sandboxd.model.agent import Forked, Snapshotted
from sandboxd.model.session import Sandbox, SandboxState, SessionLimits
from tests.drivers.graph.archives import archive, d
from tests.drivers.graph.test_rootfs import BUSYBOX
from tests.drivers.graph.test_store import tagged
from tests.node.bench import MIB
from tests.node.sessions.conftest import Node
from tests.node.sessions.gateway import TENANT, Box, Gateway, name

pytestmark = pytest.mark.root


async def fork(box: Box, count: int) -> list[Box]:
    ids = [name("sbx") for _ in range(count)]
    forked = await box.ask(agent.Fork, Forked, children=ids)
    assert [child.id for child in forked.sandboxes] == ids
    return [Box(box.gateway, child) for child in forked.sandboxes]


async def test_children_have_the_files_of_one_instant_and_go_their_own_ways(
    gateway: Gateway,
) -> None:
    box = await gateway.create(
        metadata={"a": "b"}, env={"E": "1"}, limits=SessionLimits(memory=150 * MIB)
    )
    await box.sh("mkdir d; echo one > d/f; ln -s d/f l; chmod 700 d/f; echo tmp > /tmp/t")
    counting = "i=0; while true; do i=$((i+1)); echo $i > a; cp a b; done"
    await box.start("/bin/sh", "-c", counting)
    await asyncio.sleep(0.1)
    children = await fork(box, 3)
    seen = set()
    for child in children:
        assert child.sandbox.forked_from == box.id
        assert (child.sandbox.metadata, child.sandbox.limits) == (
            {"a": "b"},
            box.sandbox.limits,
        )
        text = await child.sh("cat l /tmp/t; stat -c %a:%u d/f; cat a b; echo $E")
        seen.add(text)
        assert text.startswith(b"one\ntmp\n700:1000\n")
        assert b"counting" not in await child.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert len(seen) == 1, "they are of one instant"
    await children[0].sh("echo two > d/f; rm /tmp/t")
    assert await children[1].sh("cat d/f /tmp/t") == b"one\ntmp\n"
    assert await box.sh("cat d/f") == b"one\n"
    assert (await box.get()).state is SandboxState.RUNNING
    (grandchild,) = await fork(children[0], 1)
    assert await grandchild.sh("cat d/f; ls /tmp") == b"two\n"


async def test_a_fork_of_an_untouched_sandbox_makes_no_layer(node: Node, box: Box) -> None:
    (child,) = await fork(box, 1)
    assert await child.sh("ls -A") == b""
    assert node.graph.store.database.rows("SELECT * FROM layers") == []
    await box.sh("mkdir /home/user/.cache")
    await fork(box, 1)
    assert len(node.graph.store.database.rows("SELECT * FROM layers")) == 1


async def test_a_paused_sandbox_is_forked_as_it_is(box: Box) -> None:
    await box.sh("echo x > f")
    await box.ask(agent.Pause, Sandbox)
    (child,) = await fork(box, 1)
    assert await child.sh("cat f") == b"x\n"
    assert (await box.get()).state is SandboxState.PAUSED


async def test_either_all_children_come_to_be_or_none(node: Node, box: Box) -> None:
    await box.sh("echo x > f")
    other = name("sbx")
    with pytest.raises(Conflict):
        await box.ask(agent.Fork, Forked, children=[other, box.id])
    while True:
        try:
            node.registry.find(TENANT, other)
        except NotFound:
            break
        except Exception:
            break
        await asyncio.sleep(0.01)
    assert (await box.get()).state is SandboxState.RUNNING


async def test_a_snapshot_is_an_image_from_then_on(node: Node) -> None:
    items = [BUSYBOX, d("work", 0o777), d("tmp", 0o1777)]
    await asyncio.to_thread(tagged, node.graph, "base", archive(items))
    box = await node.gateway.create(image="base")
    assert box.sandbox.image == "base"
    shell = ("/bin/busybox", "sh", "-c")
    await box.run(*shell, "echo kept > f; echo gone > g; rm g")
    made = await box.ask(agent.Snapshot, Snapshotted, name="snap:1")
    assert made.size > 0
    await box.run(*shell, "echo later > f")
    for image in (made.image, "snap:1"):
        again = await node.gateway.create(image=image)
        assert (await again.run(*shell, "cat f; ls")).stdout == b"kept\nf\n"
    (child,) = await fork(again, 1)
    assert (await child.run(*shell, "cat f")).stdout == b"kept\n"
    await child.run(*shell, "echo child > f")
    (second,) = await fork(child, 1)
    assert (await second.run(*shell, "cat f")).stdout == b"child\n"
    same = await again.ask(agent.Snapshot, Snapshotted)
    assert (same.image, same.size) == (made.image, 0)


async def test_a_snapshot_on_the_hosts_directories_goes_on_top_of_them_again(
    gateway: Gateway, box: Box
) -> None:
    await box.sh("echo kept > f; mkdir -m 700 d; echo x > /tmp/t")
    made = await box.ask(agent.Snapshot, Snapshotted, name="snap")
    assert made.size > 0
    again = await gateway.create(image="snap")
    assert await again.sh("cat f /tmp/t; stat -c %a:%u d; python3 -c 'print(1)'") == (
        b"kept\nx\n700:1000\n1\n"
    )
    await again.sh("echo more > g")
    (child,) = await fork(again, 1)
    assert await child.sh("cat f g") == b"kept\nmore\n"
    second = await child.ask(agent.Snapshot, Snapshotted)
    third = await gateway.create(image=second.image)
    assert await third.sh("cat f g") == b"kept\nmore\n"


async def test_a_snapshot_of_nothing_is_an_image_too(gateway: Gateway, box: Box) -> None:
    made = await box.ask(agent.Snapshot, Snapshotted, name="empty")
    again = await gateway.create(image=made.image)
    assert await again.sh("ls -A; echo on") == b"on\n"


async def test_snapshots_are_their_tenants_alone(gateway: Gateway, box: Box) -> None:
    await box.sh("echo secret > f")
    made = await box.ask(agent.Snapshot, Snapshotted, name="mine")
    for image in ("mine", made.image, f"tenants/{TENANT}/mine"):
        with pytest.raises(UnknownImage):
            await gateway.create(tenant="other", image=image)
