"""Images from what lies on this machine, and out again, read back by other people's tools."""

import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from sandboxd.cli.main import cli
from sandboxd.drivers.graph import exporting, importing
from sandboxd.drivers.graph.graph import Graph
from sandboxd.errors import DriverFault, InvalidImage
from sandboxd.model.image import Recipe
from sandboxd.settings import Settings
from tests.drivers.graph.archives import Item, archive, d

pytestmark = pytest.mark.skipif(
    not (shutil.which("skopeo") and shutil.which("umoci")), reason="needs skopeo and umoci"
)


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers by umoci: the second changes a file, deletes one, and replaces a directory."""
    top = tmp_path_factory.mktemp("umoci")
    where = top / "layout"

    def umoci(*words: str) -> None:
        subprocess.run(["umoci", *words], check=True, capture_output=True)

    def repacked(change: str) -> None:
        bundle = top / "bundle"
        umoci("unpack", "--image", f"{where}:x", str(bundle))
        subprocess.run(["sh", "-ec", change], cwd=bundle / "rootfs", check=True)
        umoci("repack", "--refresh-bundle", "--image", f"{where}:x", str(bundle))
        shutil.rmtree(bundle)

    umoci("init", "--layout", str(where))
    umoci("new", "--image", f"{where}:x")
    repacked("mkdir a d; echo one > a/f; echo gone > a/g; echo old > d/old; ln -s a/f l")
    repacked("echo two > a/f; rm a/g; rm -r d; mkdir d; echo new > d/new")
    umoci("config", "--image", f"{where}:x", "--config.env", "A=1", "--config.workingdir", "/a")
    return where


def merged(graph: Graph, digest: str, tmp_path: Path) -> dict[str, str]:
    """Files of an image, as an overlay of its layers shows them."""
    paths = [
        graph.layers.path(layer.digest) for layer in graph.images.details(digest).manifest.layers
    ]
    lowers = [*map(str, reversed(paths))]
    if len(lowers) == 1:
        (tmp_path / "empty").mkdir(exist_ok=True)
        lowers.append(str(tmp_path / "empty"))
    point = tmp_path / "merged"
    point.mkdir(exist_ok=True)
    subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", f"ro,lowerdir={':'.join(lowers)}", point],
        check=True,
    )
    try:
        return {
            str(path.relative_to(point)): "-> " + os.readlink(path)
            if path.is_symlink()
            else path.read_text()
            for path in sorted(point.rglob("*"))
            if path.is_symlink() or path.is_file()
        }
    finally:
        subprocess.run(["umount", point], check=True)


EXPECTED = {"a/f": "two\n", "d/new": "new\n", "l": "-> a/f"}


def test_a_layout_of_umoci_becomes_an_image(graph: Graph, layout: Path, tmp_path: Path) -> None:
    with graph.store.leasing() as lease:
        digest = importing.from_layout(graph.images, lease, layout)
    assert merged(graph, digest, tmp_path) == EXPECTED
    config = graph.images.details(digest).config.config
    assert config is not None
    assert config.working_dir == "/a"
    assert config.env is not None
    assert "A=1" in config.env


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_archives_of_skopeo_become_images(
    graph: Graph, layout: Path, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "image.tar"
    subprocess.run(["skopeo", "copy", "-q", f"oci:{layout}:x", f"{kind}:{path}"], check=True)
    assert importing.is_archive_of_images(path)
    with graph.store.leasing() as lease:
        digest = importing.from_archive(graph.images, lease, path)
    assert merged(graph, digest, tmp_path) == EXPECTED


def test_what_is_exported_is_read_by_skopeo_and_umoci(
    graph: Graph, layout: Path, tmp_path: Path
) -> None:
    with graph.store.leasing() as lease:
        digest = importing.from_layout(graph.images, lease, layout)
        exporting.to_layout(graph.images, digest, "x:v1", tmp_path / "out")
        with (tmp_path / "out.tar").open("wb") as file:
            exporting.to_archive(graph.images, digest, "x:v1", file)
    bundle = tmp_path / "bundle"
    subprocess.run(
        ["umoci", "unpack", "--image", f"{tmp_path}/out:v1", bundle],
        check=True,
        capture_output=True,
    )
    assert (bundle / "rootfs/a/f").read_text() == "two\n"
    for kind in ("docker-archive", "oci-archive"):
        shown = subprocess.run(
            ["skopeo", "inspect", f"{kind}:{tmp_path}/out.tar"], check=True, capture_output=True
        )
        assert json.loads(shown.stdout)["Os"] == "linux"


def test_a_root_file_system_and_a_directory_become_images(graph: Graph, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/hello").write_text("hi")
    data = archive([d("etc"), Item("etc/hello", b"hi")])
    with graph.store.leasing() as lease:
        for digest in (
            importing.from_directory(graph.images, lease, tree),
            importing.from_rootfs(graph.images, lease, io.BytesIO(data), "-"),
        ):
            assert merged(graph, digest, tmp_path) == {"etc/hello": "hi"}


@pytest.fixture
def mmdebstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the real one, which needs a mirror and a minute (`make images`): it puts its
    arguments into the root file system, and fails for the suite `broken` in the midst of its work."""
    tools = tmp_path / "tools"
    tools.mkdir()
    archive_path = tmp_path / "root.tar"
    script = tools / "mmdebstrap"
    script.write_text(
        "#!/bin/sh\n"
        f'printf "%s\\n" "$@" > {tools}/arguments\n'
        f'case " $* " in *" broken "*) head -c 700 {archive_path}; exit 25;; esac\n'
        f"cat {archive_path}\n"
    )
    script.chmod(0o755)
    archive_path.write_bytes(archive([Item("etc/hello", b"hi")]))
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    return tools / "arguments"


def test_debian_packages_become_an_image(graph: Graph, mmdebstrap: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        name="", title="", suite="bookworm", packages=["python3", "gcc"], env={"A": "b"}
    )
    with graph.store.leasing() as lease:
        digest = importing.from_debootstrap(graph.images, lease, recipe, ["mirror.list"])
        assert merged(graph, digest, tmp_path) == {"etc/hello": "hi"}
        details = graph.images.details(digest)
    given = mmdebstrap.read_text().split()
    assert "--include=python3,gcc" in given
    assert given[given.index("--") :] == ["--", "bookworm", "-", "mirror.list"]
    assert details.config.config and details.config.config.env == ["A=b"]
    assert "debootstrap:bookworm+python3+gcc" in str(details.config.history)


@pytest.mark.parametrize("word", ["-oAPT::Get::x=y", "a;b", "a b", "", "a,b", "../x", "$(id)"])
def test_words_that_are_no_packages_never_reach_mmdebstrap(
    graph: Graph, mmdebstrap: Path, word: str
) -> None:
    for suite, packages in ((word, ["gcc"]), ("bookworm", ["gcc", word])):
        recipe = Recipe(name="", title="", suite=suite, packages=packages)
        with graph.store.leasing() as lease, pytest.raises(InvalidImage):
            importing.from_debootstrap(graph.images, lease, recipe, [])
    assert not mmdebstrap.exists()


def test_debian_packages_that_cannot_be_had_leave_nothing(graph: Graph, mmdebstrap: Path) -> None:
    recipe = Recipe(name="", title="", suite="broken", packages=[])
    with graph.store.leasing() as lease, pytest.raises(DriverFault, match="25"):
        importing.from_debootstrap(graph.images, lease, recipe, [])
    assert mmdebstrap.exists()
    assert list((graph.store.root / "blobs").iterdir()) == []
    assert list((graph.store.root / "staging").iterdir()) == []


def test_a_blob_swapped_in_a_layout_is_refused(graph: Graph, layout: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(layout, copy)
    blob = max((copy / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(blob.read_bytes() + b"x")
    with graph.store.leasing() as lease, pytest.raises(InvalidImage, match=blob.name):
        importing.from_layout(graph.images, lease, copy)


def test_a_link_in_a_layout_reads_no_host_file(graph: Graph, layout: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(layout, copy)
    blob = max((copy / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    real = tmp_path / "real"
    blob.rename(real)
    blob.symlink_to(real)
    with graph.store.leasing() as lease, pytest.raises(InvalidImage, match=blob.name):
        importing.from_layout(graph.images, lease, copy)


def test_links_in_a_docker_archive_stay_in_it(graph: Graph, tmp_path: Path) -> None:
    inner = archive([Item("f", b"x")])
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    manifest = [{"Config": "c.json", "RepoTags": None, "Layers": ["2/layer.tar"]}]

    def saved(to: str) -> Path:
        path = tmp_path / "saved.tar"
        path.write_bytes(
            archive([
                Item("1/layer.tar", inner),
                Item("2/layer.tar", kind=tarfile.SYMTYPE, to=to),
                Item("c.json", json.dumps(config).encode()),
                Item("manifest.json", json.dumps(manifest).encode()),
            ])
        )  # fmt: skip
        return path

    with graph.store.leasing() as lease:
        with pytest.raises(InvalidImage, match="missing"):
            importing.from_archive(graph.images, lease, saved("/etc/passwd"))
        (layer,) = graph.layers.ensure([graph.store.add(lease, inner)])
        config["rootfs"]["diff_ids"] = [layer.diff_id]  # type: ignore[index]
        digest = importing.from_archive(graph.images, lease, saved("../1/layer.tar"))
    assert len(graph.images.details(digest).manifest.layers) == 1


def test_the_command_line_imports_shows_exports_and_collects(
    settings: Settings, layout: Path, tmp_path: Path
) -> None:
    runner = CliRunner(env={"SANDBOXD_STATE_DIR": settings.state_dir})

    def sandboxd(*words: str, code: int = 0) -> str:
        result = runner.invoke(cli, ["image", *words])
        assert result.exit_code == code, result.output
        return result.output

    sandboxd("import", str(layout), "x")
    assert "x:latest" in sandboxd("ls")
    assert json.loads(sandboxd("inspect", "x"))["config"]["config"]["WorkingDir"] == "/a"
    assert "umoci" in sandboxd("history", "x")
    sandboxd("tag", "x", "y:v2")
    sandboxd("rm", "x")
    assert "removed 0 blobs" in sandboxd("gc")
    sandboxd("export", "y:v2", str(tmp_path / "out.tar"))
    assert "whole" in sandboxd("verify")
    sandboxd("rm", "y:v2")
    assert "would remove 4 blobs" in sandboxd("gc", "--dry-run")
    assert "removed 4 blobs" in sandboxd("gc")
    assert "no image named x:latest" in sandboxd("inspect", "x", code=1)
    sandboxd("import", str(tmp_path / "out.tar"), "z")
    assert "z:latest" in sandboxd("ls")
