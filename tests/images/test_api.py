"""Images, volumes and templates through the API of a whole service."""

import asyncio
import io
import json
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp

import httpx
import pytest
from click.testing import CliRunner
from sandboxd_client import Client, RequestError

from sandboxd.cli.main import cli
from sandboxd.queue import Queue
from sandboxd.settings import load
from tests.drivers.graph.archives import LINK, Item, archive
from tests.gateway.fakes import FakeNode
from tests.images.debian_registry import registry as debian_registry
from tests.service.instance import Service, ServiceError

pytestmark = pytest.mark.service
BUSYBOX = Item("bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755)
ROOTFS = archive([BUSYBOX, Item("bin/sh", kind=LINK, to="busybox"), Item("version", b"one")])
KEYS = {"alice": "a" * 32, "bob": "b" * 32}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry's `host:port`; of nobody where there is no program for one."""
    if shutil.which("docker-registry") is None:
        yield "127.0.0.1:1"
        return
    with debian_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="module")
def service(registry: str) -> Iterator[Service]:
    directory = Path(mkdtemp(prefix="sandboxd-test-"))
    directory.chmod(0o711)
    keys = directory / "keys"
    from hashlib import sha256

    keys.write_text(
        "".join(f"{who}:{sha256(key.encode()).hexdigest()}\n" for who, key in KEYS.items())
    )
    keys.chmod(0o644)
    service = Service(directory, f"gateway.keys_file={keys}", "graph.context_max=50000000",
                      "gateway.body_timeout=5",
                      f"graph.registries={registry}")  # fmt: skip
    try:
        service.start()
        yield service
        left = service.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if left:
        raise ServiceError("\n".join(left))


def client(service: Service, who: str = "alice") -> httpx.Client:
    return httpx.Client(
        base_url=service.url, headers={"Authorization": f"Bearer {KEYS[who]}"}, timeout=60
    )


def lines(answer: httpx.Response) -> list[dict[str, object]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines() if line]


@pytest.fixture(scope="module")
def alice(service: Service) -> Iterator[httpx.Client]:
    with client(service) as alice:
        told = lines(alice.post("/v1/images/import", params={"name": "box"}, content=ROOTFS))
        assert told[-1]["type"] == "done", told
        yield alice


def run(client: httpx.Client, *command: str, **fields: object) -> dict[str, object]:
    answer = client.post("/v1/runs", json={"command": list(command), **fields})
    assert answer.status_code == 200, answer.text
    result: dict[str, object] = answer.json()
    return result


def context(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(mode="w", fileobj=buffer) as out:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            out.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def test_an_image_is_built_with_its_output_told_and_runs(alice: httpx.Client) -> None:
    text = 'FROM box\nARG WHO\nCOPY greeting /greeting\nRUN echo building; echo "$WHO" > /who\n'
    told = lines(
        alice.post(
            "/v1/images/build", params={"name": "hello", "arg": "WHO=me"},
            content=context(Dockerfile=text, greeting="hi\n"),
        )
    )  # fmt: skip
    assert [event["text"] for event in told if event["type"] == "output"] == ["building\n"]
    assert told[-1]["type"] == "done" and told[-1]["name"] == "hello"
    result = run(alice, "/bin/busybox", "cat", "/greeting", "/who", image="hello")
    assert (result["status"], result["stdout"]) == ("ok", "hi\nme\n"), result
    detail = alice.get("/v1/images/hello").json()
    assert detail["digest"] == told[-1]["digest"]
    assert detail["history"][-1].startswith("RUN echo building")


def test_a_fault_of_a_build_is_the_last_line(alice: httpx.Client) -> None:
    told = lines(
        alice.post(
            "/v1/images/build", params={"name": "bad", "dockerfile": "FROM box\nRUN exit 3\n"},
            content=context(a="b"),
        )
    )  # fmt: skip
    assert told[-1]["type"] == "error"
    assert told[-1]["code"] == "build_failed"
    assert "line 2" in str(told[-1]["detail"])
    assert alice.get("/v1/images/bad").status_code == 404


def test_an_archive_above_the_cap_is_refused(alice: httpx.Client) -> None:
    answer = alice.post("/v1/images/import", params={"name": "big"}, content=bytes(51_000_000))
    assert answer.status_code == 413

    def pieces() -> Iterator[bytes]:
        for _ in range(60):
            yield bytes(1_000_000)

    told = lines(alice.post("/v1/images/import", params={"name": "big"}, content=pieces()))
    assert told[-1]["code"] == "body_too_large"


def test_an_upload_that_stands_still_is_given_up(service: Service, alice: httpx.Client) -> None:
    """The service of these tests waits for five seconds."""

    def pieces() -> Iterator[bytes]:
        yield ROOTFS[:1000]
        time.sleep(6.5)
        yield ROOTFS[1000:]

    try:
        told = lines(alice.post("/v1/images/import", params={"name": "late"}, content=pieces()))
    except httpx.TransportError:
        return  # what was still to come met a closed connection
    assert told[-1]["code"] == "request_timeout", told


def test_what_is_no_archive_is_an_error_of_the_callers(alice: httpx.Client) -> None:
    told = lines(alice.post("/v1/images/import", params={"name": "no"}, content=b"garbage" * 999))
    assert told[-1]["code"] == "invalid_image"


def test_a_tenant_has_nothing_of_another(service: Service, alice: httpx.Client) -> None:
    alice.post("/v1/volumes", json={"name": "mine", "size": 8 << 20})
    digest = alice.get("/v1/images/box").json()["digest"]
    with client(service, "bob") as bob:
        assert bob.get("/v1/images").json() == {"images": []}
        assert bob.get("/v1/volumes").json() == {"volumes": []}
        for name in ("box", digest, "tenants/alice/box"):
            assert bob.get(f"/v1/images/{name}").status_code in (404, 422), name
            answer = bob.post("/v1/runs", json={"command": ["x"], "image": name})
            assert answer.status_code in (404, 422), answer.text
        assert bob.delete("/v1/volumes/mine").status_code == 404
        body = {"command": ["x"], "template": "default"}
        mount = {"name": "mine", "path": "/data"}
        assert bob.post("/v1/runs", json={**body, "volumes": [mount]}).status_code == 404
        data = {"digest": digest, "path": "/data"}
        assert bob.post("/v1/runs", json={**body, "data": [data]}).status_code == 404
        told = lines(
            bob.post(
                "/v1/images/build", params={"name": "x", "dockerfile": "FROM box\n"},
                content=context(a="b"),
            )
        )  # fmt: skip
        assert told[-1]["code"] == "invalid_dockerfile"


def test_a_volume_outlives_its_sandboxes_and_languages_have_it(alice: httpx.Client) -> None:
    made = alice.post("/v1/volumes", json={"name": "kept", "size": 16 << 20})
    assert made.status_code == 201, made.text
    mount = {"name": "kept", "path": "/data"}
    result = run(
        alice, "/bin/busybox", "sh", "-c", "echo 42 > /data/n", image="box", volumes=[mount]
    )
    assert result["status"] == "ok", result
    body = {
        "language": "python", "source": "print(open('/data/n').read())\nopen('/data/n', 'w')",
        "volumes": [{**mount, "read_only": True}],
    }  # fmt: skip
    result = alice.post("/v1/runs", json=body).json()
    assert result["stdout"] == "42\n\n"
    assert "Read-only" in result["stderr"] or "Permission" in result["stderr"]
    deadline = time.monotonic() + 10
    while (gone := alice.delete("/v1/volumes/kept")).status_code == 409:
        assert time.monotonic() < deadline  # its last sandbox is on its way out
        time.sleep(0.05)
    assert gone.status_code == 204
    again = {**body, "volumes": [mount]}
    assert alice.post("/v1/runs", json=again).status_code == 404


def test_data_is_compiled_once_and_used_by_many(alice: httpx.Client) -> None:
    told = lines(
        alice.post(
            "/v1/images/import", params={"name": "artefact"}, content=archive([Item("f", b"data")])
        )
    )  # fmt: skip
    data = {"digest": told[-1]["digest"], "path": "/srv/a"}
    body = {"language": "python", "source": "print(open('/srv/a/f').read())", "data": [data]}
    assert [alice.post("/v1/runs", json=body).json()["stdout"] for _ in range(2)] == ["data\n"] * 2


@pytest.mark.parametrize(
    "path",
    ["/", "/work", "/etc", "/proc", "/data/../etc", "/data/", "data", "/srv//x", "/work/./x"],
)
def test_mounts_go_where_they_may_only(alice: httpx.Client, path: str) -> None:
    mount = {"name": "mine", "path": path}
    body = {"command": ["x"], "template": "default", "volumes": [mount]}
    assert alice.post("/v1/runs", json=body).status_code == 422


def test_a_template_of_ones_own_is_kept_warm(alice: httpx.Client) -> None:
    wanted = {"image": "box", "pool": {"min": 1, "max": 2}}
    assert alice.put("/v1/templates/mybox", json=wanted).status_code == 200
    assert [
        x["name"] for x in alice.get("/v1/templates").json()["templates"] if not x["shared"]
    ] == ["mybox"]
    for _ in range(3):
        result = run(alice, "/bin/busybox", "cat", "/version", template="mybox")
        assert result["stdout"] == "one", result
    assert alice.put("/v1/templates/default", json=wanted).status_code == 409
    assert alice.put("/v1/templates/other", json={"image": "nosuch"}).status_code == 404
    assert alice.delete("/v1/templates/mybox").status_code == 204
    body = {"command": ["x"], "template": "mybox"}
    assert alice.post("/v1/runs", json=body).status_code == 422


async def test_what_names_an_image_goes_to_the_node_that_has_it(
    service: Service, alice: httpx.Client
) -> None:
    """Beside another that takes whatever it may have, and has no images."""
    flags = [f"instance={service.instance}", f"run_dir={service.run_dir}"]
    queue = Queue.connect(load(environ={}, flags=flags))
    far = FakeNode(queue, Path("/nowhere"), "far")
    working = asyncio.create_task(far.work())
    await far.announced.wait()
    try:
        async with httpx.AsyncClient(
            base_url=service.url, headers=alice.headers, timeout=60
        ) as client:

            async def told(**body: object) -> dict[str, object]:
                answer = await client.post("/v1/runs", json=body)
                assert answer.status_code == 200, answer.text
                result: dict[str, object] = answer.json()
                return result

            command = ["/bin/busybox", "cat", "/version"]
            while True:  # it does take what it may
                plain = await asyncio.gather(
                    *(told(template="default", command=["/bin/true"]) for _ in range(8))
                )
                if "far" in {each["node"] for each in plain}:
                    break
            asked = (told(image="box", command=command) for _ in range(12))
            assert {each["stdout"] for each in await asyncio.gather(*asked)} == {"one"}
            await asyncio.sleep(1.1)  # until the gateway has heard of it
            for _ in range(4):
                made = await client.post("/v1/sandboxes", json={"image": "box"})
                assert made.status_code == 201, made.text
                assert made.json()["node"] != "far"
                await client.delete(f"/v1/sandboxes/{made.json()['id']}")
    finally:
        working.cancel()
        await asyncio.wait([working])
        await queue.recover("far")
        await queue.close()


def test_images_of_ones_own_have_commands(
    service: Service, alice: httpx.Client, registry: str, tmp_path: Path
) -> None:
    env = {"SANDBOXD_URL": service.url, "SANDBOXD_API_KEY": KEYS["alice"]}

    def sandboxd(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli, ["image", "remote", *words], env=env)
        assert done.exit_code == code, done.output
        return done.output

    context = tmp_path / "context"
    context.mkdir()
    (context / "f").write_text("content")
    (context / "Dockerfile").write_text("FROM box\nARG A\nRUN echo said-$A\nCOPY f /f\n")
    told = sandboxd("build", "-t", "cli", "--build-arg", "A=this", str(context))
    assert "said-this" in told and "[4/4] COPY f /f" in told
    digest = told.split()[-1]
    assert sandboxd("history", "cli").splitlines()[0].startswith("COPY f /f")
    sandboxd("export", "cli", str(tmp_path / "out.tar"))
    assert digest in sandboxd("import", str(tmp_path / "out.tar"), "cli2")
    assert digest in sandboxd("tag", "cli", "cli3:v1")
    if shutil.which("docker-registry") is not None:
        sandboxd("push", "cli", f"{registry}/cli:v1")
        assert digest in sandboxd("pull", f"{registry}/cli:v1", "back")
        sandboxd("rm", "back")
    listed = {line.split()[0]: line.split()[-1] for line in sandboxd("ls").splitlines()}
    assert {"cli:latest", "cli2:latest", "cli3:v1"} <= set(listed) and listed["cli3:v1"] == "yours"
    sandboxd("rm", "cli", "cli2", "cli3:v1")
    assert sandboxd("rm", "cli", code=1).startswith("Error: ")


def test_templates_have_a_command(service: Service, alice: httpx.Client) -> None:
    def sandboxd(*words: str) -> str:
        env = {"SANDBOXD_URL": service.url, "SANDBOXD_API_KEY": KEYS["alice"]}
        done = CliRunner().invoke(cli, ["template", *words], env=env)
        assert done.exit_code == 0, done.output
        return done.output

    assert "0 to 3" in sandboxd("put", "cli", "box", "--base", "session", "--max", "3")
    assert sandboxd("show", "cli").split()[:3] == ["cli", "box", "session"]
    names = {line.split()[0]: line.split()[-1] for line in sandboxd("ls").splitlines()}
    assert names["cli"] == "yours" and names["default"] == "shared"
    assert sandboxd("rm", "cli") == ""
    env = {"SANDBOXD_URL": service.url, "SANDBOXD_API_KEY": KEYS["alice"]}
    for words in (["show", "cli"], ["rm", "cli"], ["put", "cli", "nosuch"]):
        done = CliRunner().invoke(cli, ["template", *words], env=env)
        assert done.exit_code == 1 and done.output.startswith("Error: "), done.output


def test_registries_are_closed_unless_the_operator_opens_them(alice: httpx.Client) -> None:
    for call in ("pull", "push"):
        told = lines(alice.post(f"/v1/images/{call}", json={"name": "127.0.0.1:9/x"}))
        assert told[-1]["code"] == "forbidden"


def test_a_build_whose_client_leaves_is_ended(service: Service) -> None:
    params = {"name": "slow", "dockerfile": "FROM box\nRUN echo on; busybox sleep 500\n"}
    begin = time.monotonic()
    with (
        client(service) as other,
        other.stream("POST", "/v1/images/build", params=params, content=context(a="b")) as answer,
    ):
        for line in answer.iter_lines():
            if "on" in line and "output" in line:
                break
    with client(service) as other:
        for _ in range(2):  # as many as may run at once
            told = lines(
                other.post(
                    "/v1/images/build", params={"name": "next", "dockerfile": "FROM box\nRUN true\n"},
                    content=context(a="b"),
                )
            )  # fmt: skip
            assert told[-1]["type"] == "done", told
    assert time.monotonic() - begin < 30


def test_an_image_goes_out_as_an_archive_and_comes_in_again(
    service: Service, alice: httpx.Client, tmp_path: Path
) -> None:
    with Client(service.url, KEYS["alice"]) as sdk:
        assert (
            sdk.images.export("box", tmp_path / "box.tar") == (tmp_path / "box.tar").stat().st_size
        )
        buffer = io.BytesIO()
        sdk.images.export(sdk.images.get("box").digest, buffer)
        with pytest.raises(RequestError) as missing:
            sdk.images.export("nosuch", tmp_path / "nosuch.tar")
        assert missing.value.code == "unknown_image"
        assert [path.name for path in tmp_path.iterdir()] == ["box.tar"]
    with Client(service.url, KEYS["bob"]) as sdk, pytest.raises(RequestError):
        sdk.images.export("box", io.BytesIO())
    answer = alice.head("/v1/images/export", params={"name": "box"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-tar")
    with tarfile.open(tmp_path / "box.tar") as archive:
        assert {"oci-layout", "index.json", "manifest.json"} <= set(archive.getnames())
    for content in ((tmp_path / "box.tar").read_bytes(), buffer.getvalue()):
        told = lines(alice.post("/v1/images/import", params={"name": "again"}, content=content))
        assert told[-1]["digest"] == alice.get("/v1/images/box").json()["digest"], told
        assert alice.delete("/v1/images/again").status_code == 204


def test_an_archive_of_too_many_files_is_no_image(alice: httpx.Client) -> None:
    many = archive([Item("oci-layout", b"{}"), *(Item(f"f{n}", b"") for n in range(4_096))])
    told = lines(alice.post("/v1/images/import", params={"name": "many"}, content=many))
    assert told[-1]["code"] == "invalid_image" and "1000" in str(told[-1]["detail"])
    files = archive([Item("manifest.json", b"[]"), Item("f", b"an extension of something")])
    told = lines(alice.post("/v1/images/import", params={"name": "files"}, content=files))
    assert told[-1]["type"] == "done", told
    assert alice.delete("/v1/images/files").status_code == 204


def test_a_download_that_is_left_leaves_nothing(service: Service, alice: httpx.Client) -> None:
    big = archive([Item("big", os.urandom(40_000_000))])
    assert lines(alice.post("/v1/images/import", params={"name": "large"}, content=big))
    with ExitStack() as readers:
        for _ in range(4):  # as many as are served at once, none of them read on
            answer = readers.enter_context(
                alice.stream("GET", "/v1/images/export", params={"name": "large"})
            )
            assert answer.status_code == 200
            next(answer.iter_bytes())
        params = {"name": "beside", "dockerfile": "FROM box\n"}
        told = lines(alice.post("/v1/images/build", params=params, content=context(a="b")))
        assert told[-1]["type"] == "done", "builds do not wait for them"
    whole = alice.get("/v1/images/export", params={"name": "large"})
    assert len(whole.content) > 40_000_000
    assert alice.delete("/v1/images/large").status_code == 204


def test_names_are_given_and_taken_away(alice: httpx.Client) -> None:
    answer = alice.post("/v1/images/tag", json={"name": "box", "new": "deep/er:v1"})
    assert answer.status_code == 200, answer.text
    names = {image["name"] for image in alice.get("/v1/images").json()["images"]}
    assert {"box:latest", "deep/er:v1"} <= names
    assert alice.delete("/v1/images/deep/er:v1").status_code == 204
    assert alice.get("/v1/images/deep/er:v1").status_code == 404


@pytest.mark.skipif(shutil.which("docker-registry") is None, reason="needs docker-registry")
def test_an_image_goes_to_a_registry_and_comes_back(
    service: Service, alice: httpx.Client, registry: str
) -> None:
    told = lines(
        alice.post("/v1/images/push", json={"name": "box", "remote": f"{registry}/team/box:1"})
    )
    assert told[-1]["type"] == "done", told
    assert any(event["type"] == "transfer" for event in told)
    with client(service, "bob") as bob:
        name = f"{registry}/team/box:1"
        told = lines(bob.post("/v1/images/pull", json={"name": name, "local": "mine"}))
        assert told[-1]["type"] == "done", told
        assert run(bob, "/bin/busybox", "cat", "/version", image="mine")["stdout"] == "one"
        told = lines(bob.post("/v1/images/pull", json={"name": name}))
        assert told[-1]["name"] == "team/box:1"
        told = lines(bob.post("/v1/images/pull", json={"name": f"{registry}/no/such:1"}))
        assert told[-1]["code"] == "unknown_image", told
