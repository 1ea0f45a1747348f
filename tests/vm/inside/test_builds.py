"""A build's step in a real sandbox under its own profile: it makes files, and can do no more."""

import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from sandboxd.cli.main import cli
from sandboxd.drivers.exec.native import NativeDriver
from sandboxd.drivers.graph import host_image
from sandboxd.node import apparmor
from tests.drivers.graph.archives import LINK, Item, archive
from tests.drivers.graph.test_rootfs import BUSYBOX, driver, spec
from tests.native.box import run
from tests.vm.inside.labels import parser
from tests.vm.machine import PROJECT

__all__ = ["driver"]
POLICY = PROJECT / "policies/apparmor/sandboxd-build"
MAKES = (
    "mkdir /new && echo made > /new/f && chown 33:34 /new/f && stat -c %u:%g /new/f && cat /new/f"
)


@pytest.fixture(scope="module")
def label() -> Iterator[str]:
    label = apparmor.load(POLICY, "/usr/sbin/apparmor_parser")
    yield label
    parser("--remove", str(POLICY))


def step(driver: NativeDriver, label: str, directory: Path, script: str) -> tuple[bool, str, str]:
    image = host_image.build(directory / "images", {})
    built = driver.build(msgspec.structs.replace(spec(image), apparmor=label, build_user=0))
    try:
        ran = run(built.native, ["/bin/sh", "-c", script])
        return "apparmor" in built.layers, ran.stdout.decode(), ran.stderr.decode()
    finally:
        driver.destroy(built)


def test_a_step_runs_under_the_profile_and_makes_files(
    driver: NativeDriver, label: str, tmp_path: Path
) -> None:
    script = f"cat /proc/self/attr/apparmor/current; id -u; {MAKES}"
    held, out, err = step(driver, label, tmp_path, script)
    assert held and out == "sandboxd-build (enforce)\n0\n33:34\nmade\n", err


def test_it_cannot_leave_its_profile(driver: NativeDriver, label: str, tmp_path: Path) -> None:
    script = (
        "for name in current exec; do echo changeprofile unconfined > /proc/self/attr/$name; done;"
        " /bin/cat /proc/self/attr/apparmor/current"
    )
    _, out, err = step(driver, label, tmp_path, script)
    assert out == "sandboxd-build (enforce)\n"
    assert err.count("ermission denied") == 2, err


def test_a_dockerfile_is_built_under_it(tmp_path: Path) -> None:
    """By the command, on a disk whose owners can be mapped."""
    context, layout = tmp_path / "context", tmp_path / "layout"
    context.mkdir()
    rootfs = archive(
        [BUSYBOX, Item("bin/sh", kind=LINK, to="busybox"), Item("etc/shadow", b"", mode=0o600)]
    )
    (tmp_path / "rootfs.tar").write_bytes(rootfs)
    (context / "Dockerfile").write_text(
        "FROM base\n"
        "RUN busybox cat /proc/self/attr/apparmor/current > /label; busybox chown 33:34 /label\n"
        "RUN busybox mount -t tmpfs none /etc || echo kept >> /etc/shadow\n"
    )
    with tempfile.TemporaryDirectory(prefix="builds-", dir="/var/tmp") as store:
        flags = [f"state_dir={store}", f"run_dir={tmp_path}/run", "instance=vm"]
        options = [word for flag in flags for word in ("--set", flag)]

        def sandboxd(*words: str) -> str:
            done = CliRunner().invoke(cli, [*options, "image", *words])
            assert done.exit_code == 0, done.output
            return done.output

        sandboxd("import", str(tmp_path / "rootfs.tar"), "base")
        sandboxd("build", "-t", "made", str(context))
        sandboxd("export", "made", f"{layout}/")
    found: dict[str, tuple[bytes, int]] = {}
    for blob in (layout / "blobs" / "sha256").iterdir():
        if tarfile.is_tarfile(blob):
            with tarfile.open(blob) as layer:
                for name in {"label", "etc/shadow"} & set(layer.getnames()):
                    file = layer.extractfile(name)
                    assert file is not None
                    content = file.read()
                    if content:
                        found[name] = content, layer.getmember(name).uid
    assert found == {"label": (b"sandboxd-build (enforce)\n", 33), "etc/shadow": (b"kept\n", 0)}
