"""The client library on images, volumes and templates, against a whole service."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from sandboxd_client import AsyncClient, Client, Progress, RequestError, Template

from tests.drivers.graph.archives import LINK, Item, archive
from tests.service.instance import ROOT, Service

pytestmark = pytest.mark.service
BUSYBOX = Item("bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755)
ROOTFS = archive([BUSYBOX, Item("bin/sh", kind=LINK, to="busybox")])


def test_a_template_is_written_built_and_run(service: Service, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "f").write_text("in a tree")
    (tmp_path / "odd name").write_text("odd")
    heard: list[Progress] = []
    with Client(service.url) as client:
        client.images.import_rootfs("sdk-base", ROOTFS)
        template = (
            Template.from_image("sdk-base")
            .env(QUOTED='a "$b" \\c', PLAIN="x")
            .run('echo "$QUOTED" > /quoted; echo told')
            .copy(tmp_path / "tree", "/srv/tree/")
            .copy(tmp_path / "odd name", "/srv/$odd")
            .run(["busybox", "touch", "/srv/argv"])
            .workdir("/srv")
            .cmd("busybox", "sh")
        )
        made = template.build("sdk", client=client, pool=(0, 2), on_progress=heard.append)
        assert (made.name, made.image, made.pool) == ("sdk", "sdk", (0, 2))
        assert [event.text for event in heard if event.type == "output"] == ["told\n"]
        script = "cat /quoted /srv/tree/f '/srv/$odd'; ls /srv"
        result = client.run(template="sdk", command=["busybox", "sh", "-c", script])
        assert result.stdout == 'a "$b" \\c\nin a treeodd$odd\nargv\ntree\n', result
        detail = client.images.get("sdk")
        assert (detail.workdir, detail.command) == ("/srv", ("busybox", "sh"))
        with pytest.raises(RequestError) as caught:
            Template.from_image("sdk-base").run("exit 9").build("bad", client=client)
        assert caught.value.code == "build_failed"
        client.templates.remove("sdk")
        client.images.remove("sdk")
        assert "sdk:latest" not in [image.name for image in client.images.list()]


def test_volumes_are_mounted_by_runs(service: Service) -> None:
    with Client(service.url) as client:
        volume = client.volumes.create("sdk", 16 << 20)
        assert volume.size == 16 << 20
        mount = {"name": "sdk", "path": "/data"}
        wrote = client.run(
            language="python", source="open('/data/f', 'w').write('x')", volumes=[mount]
        )
        assert wrote.ok, wrote
        read = client.run(
            template="default", command=["cat", "/data/f"], volumes=[{**mount, "read_only": True}]
        )
        assert read.stdout == "x"
        assert [each.name for each in client.volumes.list()] == ["sdk"]
        with pytest.raises(RequestError):
            client.volumes.create("sdk", 16 << 20)


def test_the_same_without_blocking(service: Service, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("async")
    (tmp_path / "Dockerfile").write_text("FROM async-base\nARG A\nCOPY f /f\nRUN echo $A > /a\n")

    async def main() -> None:
        async with AsyncClient(service.url) as client:
            await client.images.import_rootfs("async-base", ROOTFS)
            image = await client.images.build("async", tmp_path, build_args={"A": "b"})
            assert not image.shared
            result = await client.run(image="async", command=["/bin/busybox", "cat", "/f", "/a"])
            assert result.stdout == "asyncb\n"
            made = await Template.from_image("async").run("true").abuild("again", client=client)
            assert made.name == "again"
            assert {each.name for each in await client.templates.list()} >= {"default", "again"}

    asyncio.run(main())


@pytest.mark.parametrize("name", ["", "../x", "/x", "a/../b"])
def test_names_that_lead_elsewhere_are_not_sent(service: Service, name: str) -> None:
    with Client(service.url) as client, pytest.raises(ValueError):
        client.images.get(name)


def test_words_that_cannot_be_meant_are_refused() -> None:
    for bad in (lambda: Template.from_image("a b"), lambda: Template.from_image("a").env(X="a\nb")):
        with pytest.raises(ValueError):
            bad()


def test_volumes_from_a_terminal(service: Service) -> None:
    def volume(*words: str) -> str:
        argv = [sys.executable, "-m", "sandboxd.cli.main", "volume", "--url", service.url, *words]
        return subprocess.run(argv, cwd=ROOT, capture_output=True, check=True, text=True).stdout

    assert volume("create", "terminal", "16M") == f"terminal {16 << 20}\n"
    assert "terminal" in volume("ls")
    volume("rm", "terminal")
    assert "terminal" not in volume("ls")
