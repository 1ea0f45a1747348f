"""Volumes and data in sandboxes that live; their images, warm, by a template of the tenant's."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from sandboxd_client import Client, RequestError, Sandbox, SandboxdError

from sandboxd.cli.main import cli
from tests.drivers.graph.archives import LINK, Item, archive
from tests.sandboxes.conftest import KEYS, WAIT
from tests.service.instance import Service, running

pytestmark = [
    pytest.mark.root,
    pytest.mark.service,
    pytest.mark.skipif(not Path("/dev/loop-control").exists(), reason="needs loop devices"),
]
MIB = 1 << 20
BUSYBOX = Item("bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755)
ROOTFS = archive([BUSYBOX, Item("bin/sh", kind=LINK, to="busybox"), Item("version", b"one")])


def gone(client: Client, volume: str) -> None:
    """Remove a volume as soon as its last sandbox is down."""
    deadline = time.monotonic() + WAIT
    while True:
        try:
            return client.volumes.remove(volume)
        except RequestError as error:
            assert error.code == "conflict" and time.monotonic() < deadline, error
            time.sleep(0.05)


def answering(box: Sandbox, deadline: float) -> None:
    """Wait until its new node has it."""
    while True:
        try:
            assert box.run("true").exit_code == 0
            return
        except SandboxdError as error:
            assert error.code in ("unavailable", "node_lost", "connection_failed"), error.code
            assert time.monotonic() < deadline, error
            time.sleep(0.1)


@pytest.fixture
def volume(client: Client) -> Iterator[str]:
    client.volumes.create("kept", 16 * MIB)
    yield "kept"
    gone(client, "kept")


def mounted(volume: str, path: str = "/data", **more: Any) -> dict[str, Any]:
    return {"volumes": [{"name": volume, "path": path, **more}]}


def test_a_volume_outlives_sandboxes_and_is_shared_by_them(client: Client, volume: str) -> None:
    with Sandbox.create(client=client, **mounted(volume)) as first:
        assert first.info.volumes == ({"name": volume, "path": "/data", "read_only": False},)
        assert first.run("id -u > /data/who && cat /data/who").stdout == "1000\n"
        first.files.write("/data/file", b"bytes" * 100_000)
        with Sandbox.create(client=client, **mounted(volume, "/work/in", read_only=True)) as other:
            assert other.files.read("in/file") == b"bytes" * 100_000
            assert other.run("echo x > in/file").exit_code != 0
            assert first.run("echo second > /data/next").exit_code == 0
            assert other.run("cat in/next").stdout == "second\n"
        with pytest.raises(RequestError) as held:
            client.volumes.remove(volume)
        assert held.value.code == "conflict"
    with Sandbox.create(client=client, **mounted(volume)) as later:
        assert later.run("cat /data/who /data/next").stdout == "1000\nsecond\n"


def test_the_size_of_a_volume_is_its_cap(client: Client, volume: str) -> None:
    with Sandbox.create(client=client, **mounted(volume)) as box:
        assert box.run("head -c 32000000 /dev/zero > /data/big").exit_code != 0
        assert 8 * MIB < int(box.run("wc -c < /data/big").stdout) < 16 * MIB
        with pytest.raises(SandboxdError) as full:
            box.files.write("/data/more", bytes(16 * MIB))
        assert full.value.code == "no_space"


def test_forks_share_volumes_and_snapshots_leave_them_out(client: Client, volume: str) -> None:
    with Sandbox.create(client=client, **mounted(volume)) as box:
        box.run("echo own > /work/own; echo shared > /data/shared")
        (child,) = box.fork(1)
        with child:
            assert child.info.volumes == box.info.volumes
            assert child.run("cat /work/own /data/shared").stdout == "own\nshared\n"
            child.run("echo child > /data/shared; echo child > /work/own")
            assert box.run("cat /work/own /data/shared").stdout == "own\nchild\n"
        image = box.snapshot("with-volume").image
        with Sandbox.create(client=client, image=image) as copy:
            assert copy.run("cat /work/own").stdout == "own\n"
            assert copy.run("ls /data").stdout == "", "its place is there, and empty"
    client.images.remove("with-volume")


def test_what_a_tenant_has_not_cannot_be_mounted(
    client: Client, served: Service, volume: str
) -> None:
    data = client.images.import_rootfs("artefact", archive([Item("f", b"data")])).digest
    with Sandbox.create(client=client, data=[{"digest": data, "path": "/srv/a"}]) as box:
        assert box.run("cat /srv/a/f").stdout == "data"
        assert box.run("touch /srv/a/f").exit_code != 0
        (child,) = box.fork(1)
        with child:
            assert child.run("cat /srv/a/f").stdout == "data"
    with Client(served.url, KEYS["bob"]) as bob:
        for wanted in (mounted(volume), {"data": [{"digest": data, "path": "/srv/a"}]}):
            with pytest.raises(RequestError) as refused:
                Sandbox.create(client=bob, **wanted)
            assert refused.value.status == 404, refused.value
    for path in ("/work", "/etc", "/data/../etc"):
        with pytest.raises(RequestError) as refused:
            Sandbox.create(client=client, **mounted(volume, path))
        assert refused.value.field == "volumes.0.path"
    client.images.remove("artefact")


def test_the_command_line_mounts_too(client: Client, served: Service, volume: str) -> None:
    def sandboxd(*words: str) -> str:
        env = {"SANDBOXD_URL": served.url, "SANDBOXD_API_KEY": KEYS["ann"]}
        done = CliRunner().invoke(cli, ["sandbox", *words], env=env)
        assert done.exit_code == 0, done.output
        return done.output.strip()

    name = sandboxd("create", "--volume", f"{volume}:/mnt/v")
    other = sandboxd("create", "--volume", f"{volume}:/mnt/v:ro")
    try:
        boxes = [Sandbox.connect(each, client=client) for each in (name, other)]
        assert boxes[0].run("echo cli > /mnt/v/f").exit_code == 0
        assert boxes[1].run("cat /mnt/v/f; touch /mnt/v/f").stdout == "cli\n"
        assert boxes[1].run("touch /mnt/v/f").exit_code != 0
    finally:
        sandboxd("kill", name, other)


def test_a_tenants_template_gives_warm_sandboxes(client: Client, served: Service) -> None:
    client.images.import_rootfs("box", ROOTFS)
    client.templates.put("mine", "box", base="session", pool=(1, 2))
    client.templates.put("of-runs", "box")
    try:
        for _ in range(3):
            with Sandbox.create(client=client, template="mine") as box:
                assert box.info.template == "session" and box.info.image == "box"
                assert box.run("busybox cat /version").stdout == "one"
        deadline = time.monotonic() + WAIT
        digest = client.images.get("box").digest
        while f'template="session@{digest}/ann"' not in httpx.get(f"{served.url}/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with pytest.raises(RequestError) as refused:
            Sandbox.create(client=client, template="of-runs")
        assert refused.value.field == "template"
    finally:
        client.templates.remove("mine")
        client.templates.remove("of-runs")
        client.images.remove("box")


def test_volumes_stay_mounted_over_the_death_of_a_node() -> None:
    with running() as service, Client(service.url) as client:
        client.volumes.create("v", 16 * MIB)
        data = client.images.import_rootfs("artefact", archive([Item("f", b"data")])).digest
        box = Sandbox.create(
            client=client, **mounted("v"), data=[{"digest": data, "path": "/srv/a"}]
        )
        with box:
            box.run("echo before > /data/f")
            node = service.role("node")
            assert node is not None
            os.kill(node, signal.SIGKILL)
            deadline = time.monotonic() + WAIT
            while service.role("node") in (node, None):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            answering(box, deadline)
            assert Sandbox.connect(box.id, client=client).info.volumes == box.info.volumes
            assert box.run("cat /data/f /srv/a/f; echo after >> /data/f").stdout == "before\ndata"
            # The new node holds it, and gives it to others.
            with pytest.raises(RequestError) as held:
                client.volumes.remove("v")
            assert held.value.code == "conflict"
            with Sandbox.create(client=client, **mounted("v")) as other:
                assert other.run("cat /data/f").stdout == "before\nafter\n"
        gone(client, "v")
