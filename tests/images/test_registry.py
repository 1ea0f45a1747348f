"""Pull and push: against Debian's registry and skopeo's images, and against one that fails."""

import base64
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from sandboxd.drivers.graph import registry
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.registry.credentials import Credentials, credentials
from sandboxd.drivers.graph.verify import verify
from sandboxd.errors import DriverFault, InvalidImage, UnknownImage
from sandboxd.model.image import OCI_INDEX, OCI_MANIFEST
from sandboxd.settings import Settings
from tests.drivers.graph.archives import Item, archive
from tests.drivers.graph.test_store import tagged
from tests.images.debian_registry import PASSWORD, USER
from tests.images.debian_registry import registry as debian_registry
from tests.images.faulty_registry import FaultyRegistry, faulty_registry

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not all(map(shutil.which, ("skopeo", "umoci", "docker-registry"))),
        reason="needs skopeo, umoci and docker-registry",
    ),
]


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    settings = msgspec.structs.replace(Settings(), state_dir=str(tmp_path / "state"))
    with Graph(settings) as graph:
        yield graph


@pytest.fixture(autouse=True)
def _own_docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


def log_in(tmp_path: Path, address: str) -> None:
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(
        json.dumps({"auths": {address: {"auth": auth}}})
    )


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of three layers, by umoci."""
    top = tmp_path_factory.mktemp("umoci")
    where = top / "layout"

    def umoci(*words: str) -> None:
        subprocess.run(["umoci", *words], check=True, capture_output=True)

    umoci("init", "--layout", str(where))
    umoci("new", "--image", f"{where}:x")
    for number in range(3):
        bundle = top / "bundle"
        umoci("unpack", "--image", f"{where}:x", str(bundle))
        (bundle / "rootfs" / f"f{number}").write_text(f"content {number}")
        umoci("repack", "--image", f"{where}:x", str(bundle))
        shutil.rmtree(bundle)
    return where


def quiet(_digest: str, _done: int, _total: int) -> None:
    pass


def pulled(graph: Graph, name: str, sleep: Callable[[float], None] = lambda _: None) -> str:
    remote = registry.remote_name(name)
    with graph.store.leasing() as lease, registry.Client(remote, sleep=sleep) as client:
        digest = registry.pull(client, graph.images, lease, quiet)
        graph.store.tag(remote.local, digest)
    return digest


def files(graph: Graph, digest: str) -> set[str]:
    return {
        path.name
        for layer in graph.images.details(digest).manifest.layers
        for path in graph.layers.path(layer.digest).iterdir()
    }


def skopeo(*words: str) -> bytes:
    return subprocess.run(["skopeo", *words], check=True, capture_output=True).stdout


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_an_image_of_skopeo_is_pulled(
    graph: Graph, layout: Path, tmp_path: Path, compression: str
) -> None:
    with debian_registry(tmp_path) as address:
        skopeo(
            "copy", "--dest-tls-verify=false", "--dest-compress-format", compression,
            "--dest-compress", f"oci:{layout}:x", f"docker://{address}/some/image:v1",
        )  # fmt: skip
        digest = pulled(graph, f"{address}/some/image:v1")
        assert (
            json.loads(
                skopeo("inspect", "--tls-verify=false", f"docker://{address}/some/image:v1")
            )["Digest"]
            == digest
        )
        assert pulled(graph, f"{address}/some/image@{digest}") == digest
    assert files(graph, digest) == {"f0", "f1", "f2"}
    assert list(verify(graph.store)) == []


def test_a_pushed_image_is_read_back_by_skopeo(graph: Graph, tmp_path: Path) -> None:
    layers = [archive([Item("a", b"x" * 3_000_000)]), archive([Item("b", b"y")])]
    digest = tagged(graph, "mine", *layers)
    with debian_registry(tmp_path) as address:
        for tag in ("v1", "v2"):
            target = registry.remote_name(f"{address}/team/mine:{tag}")
            with registry.Client(target, push=True) as client:
                registry.push(client, graph.images, digest, quiet)
        shown = json.loads(
            skopeo("inspect", "--tls-verify=false", f"docker://{address}/team/mine:v2")
        )
        assert shown["Digest"] == digest
        skopeo(
            "copy",
            "--src-tls-verify=false",
            f"docker://{address}/team/mine:v1",
            f"oci:{tmp_path}/back:x",
        )
    subprocess.run(
        ["umoci", "unpack", "--image", f"{tmp_path}/back:x", tmp_path / "bundle"],
        check=True, capture_output=True,
    )  # fmt: skip
    assert (tmp_path / "bundle/rootfs/a").read_bytes() == b"x" * 3_000_000


def test_a_password_is_taken_from_dockers_configuration(
    graph: Graph, layout: Path, tmp_path: Path
) -> None:
    with debian_registry(tmp_path, password=True) as address:
        skopeo(
            "copy", "--dest-tls-verify=false", "--dest-creds", f"{USER}:{PASSWORD}",
            f"oci:{layout}:x", f"docker://{address}/private:v1",
        )  # fmt: skip
        with pytest.raises(DriverFault, match="401"):
            pulled(graph, f"{address}/private:v1")
        log_in(tmp_path, address)
        digest = pulled(graph, f"{address}/private:v1")
        with registry.Client(registry.remote_name(f"{address}/private:v2"), push=True) as client:
            registry.push(client, graph.images, digest, quiet)


def test_what_is_not_there_is_named(graph: Graph, tmp_path: Path) -> None:
    with debian_registry(tmp_path) as address, pytest.raises(UnknownImage, match="nothing"):
        pulled(graph, f"{address}/nothing:here")


@pytest.fixture
def faulty() -> Iterator[FaultyRegistry]:
    """It has the image `x:v1` of two layers, and `x:many` for three platforms."""
    with faulty_registry() as server:
        layers = [archive([Item(name, name.encode() * 400_000)]) for name in ("a", "b")]
        server.manifests["v1"] = (OCI_MANIFEST, manifest(server, "amd64", layers))
        entries = []
        for architecture in ("arm64", "amd64", "s390x"):
            data = manifest(server, architecture, layers)
            digest = server.add(data)
            server.manifests[digest] = (OCI_MANIFEST, data)
            entries.append(
                {
                    "mediaType": OCI_MANIFEST, "digest": digest, "size": len(data),
                    "platform": {"os": "linux", "architecture": architecture},
                }
            )  # fmt: skip
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        server.manifests["many"] = (OCI_INDEX, json.dumps(index).encode())
        yield server


def manifest(server: FaultyRegistry, architecture: str, layers: list[bytes]) -> bytes:
    digests = [server.add(layer) for layer in layers]
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": digests},
        }
    ).encode()
    kind = "application/vnd.oci.image"
    parts = [
        {"mediaType": f"{kind}.layer.v1.tar", "digest": digest, "size": len(layer)}
        for digest, layer in zip(digests, layers, strict=True)
    ]
    return json.dumps(
        {
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": parts,
            "config": {
                "mediaType": f"{kind}.config.v1+json", "digest": server.add(config), "size": len(config),
            },
        }
    ).encode()  # fmt: skip


@pytest.mark.parametrize("ranged", [True, False])
def test_a_broken_download_goes_on_where_it_broke(
    graph: Graph, faulty: FaultyRegistry, ranged: bool
) -> None:
    faulty.break_after, faulty.ranged = 150_000, ranged
    digest = pulled(graph, f"{faulty.address}/x:v1")
    assert files(graph, digest) == {"a", "b"}
    assert "bytes=150000-" in faulty.ranges


def test_a_busy_registry_is_asked_again(graph: Graph, faulty: FaultyRegistry) -> None:
    faulty.busy = 3
    rests: list[float] = []
    pulled(graph, f"{faulty.address}/x:v1", rests.append)
    assert len(rests) == 3
    faulty.busy = 100
    with pytest.raises(DriverFault, match="given up: status 503"):
        pulled(graph, f"{faulty.address}/x:v1", rests.append)


def test_a_token_is_fetched_with_the_password(
    graph: Graph, faulty: FaultyRegistry, tmp_path: Path
) -> None:
    faulty.token = "opaque"
    with pytest.raises(DriverFault, match="401"):
        pulled(graph, f"{faulty.address}/x:v1")
    log_in(tmp_path, faulty.address)
    faulty.requests.clear()
    pulled(graph, f"{faulty.address}/x:v1")
    assert faulty.requests["token"] == 1


def test_of_several_platforms_this_machines_is_taken(graph: Graph, faulty: FaultyRegistry) -> None:
    digest = pulled(graph, f"{faulty.address}/x:many")
    assert graph.images.details(digest).config.architecture == "amd64"


@pytest.mark.parametrize("swap", [b"short", b"z" * 2_000_000])
def test_other_content_than_promised_is_refused_and_leaves_nothing(
    graph: Graph, faulty: FaultyRegistry, swap: bytes
) -> None:
    faulty.swap = swap
    with pytest.raises((InvalidImage, DriverFault)):
        pulled(graph, f"{faulty.address}/x:v1")
    assert list((graph.store.root / "staging").iterdir()) == []
    assert graph.store.tags() == []


def test_what_the_store_has_is_not_downloaded_again(graph: Graph, faulty: FaultyRegistry) -> None:
    pulled(graph, f"{faulty.address}/x:v1")
    faulty.requests.clear()
    pulled(graph, f"{faulty.address}/x:v1")
    assert faulty.requests["blobs"] == 0


def test_a_token_never_follows_to_another_host(tmp_path: Path) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.host == "elsewhere.example":
            return httpx.Response(200, stream=httpx.ByteStream(b"x"))
        if "authorization" not in request.headers:
            return httpx.Response(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        return httpx.Response(307, headers={"Location": "https://elsewhere.example/blob"})

    log_in(tmp_path, "registry.example")
    transport = httpx.MockTransport(answer)
    with registry.Client(registry.remote_name("registry.example/x"), transport=transport) as client:
        client.small("GET", client.url("blobs/x"))
    assert [request.headers.get("authorization", "")[:5] for request in seen] == ["", "Basic", ""]


def test_a_password_is_not_sent_in_the_clear(tmp_path: Path) -> None:
    log_in(tmp_path, "registry.example")
    transport = httpx.MockTransport(
        lambda _: httpx.Response(
            401, headers={"WWW-Authenticate": 'Bearer realm="http://thief.example/t"'}
        )
    )
    with (
        registry.Client(registry.remote_name("registry.example/x"), transport=transport) as client,
        pytest.raises(DriverFault, match="in the clear"),
    ):
        client.small("GET", client.url("manifests/latest"))


def test_a_credential_helper_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "docker-credential-mine"
    helper.write_text(
        '#!/bin/sh\nread host\necho "{\\"Username\\":\\"<token>\\",\\"Secret\\":\\"for $host\\"}"\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "docker").mkdir()
    path = tmp_path / "docker" / "config.json"
    path.write_text('{"credHelpers": {"r.example": "mine", "s.example": "../evil"}}')
    assert credentials("r.example") == Credentials(token="for r.example")
    assert credentials("other.example") is None
    with pytest.raises(DriverFault, match="is not a name"):
        credentials("s.example")


@pytest.mark.parametrize(
    ("text", "base", "local"),
    [
        ("python:3.12", "https://registry-1.docker.io", "docker.io/library/python:3.12"),
        ("me/tool", "https://registry-1.docker.io", "docker.io/me/tool:latest"),
        ("localhost:5000/a/b:c", "http://localhost:5000", "localhost:5000/a/b:c"),
        ("127.0.0.1:5000/a", "http://127.0.0.1:5000", "127.0.0.1:5000/a:latest"),
        ("ghcr.io/a/b", "https://ghcr.io", "ghcr.io/a/b:latest"),
        ("localhost.evil.example/a", "https://localhost.evil.example", "localhost.evil.example/a:latest"),
    ],
)  # fmt: skip
def test_names_say_where_to_ask(text: str, base: str, local: str) -> None:
    name = registry.remote_name(text)
    assert (name.base, name.local) == (base, local)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A/b",
        "x:",
        "a@sha256:12",
        "h.example/../x",
        "u:p@h.example/x",
        "h.example:5000:1/x",
        "a b",
    ],
)
def test_names_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidImage):
        registry.remote_name(text)
