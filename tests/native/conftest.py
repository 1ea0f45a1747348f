"""A workshop that builds sandboxes from the test build of sandbox-init."""

import functools
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandboxd.drivers.exec.cgroups import find
from sandboxd.drivers.graph import host_image
from sandboxd.native import compile_seccomp, seal_init
from sandboxd.settings import Settings
from tests.native.box import Workshop
from tests.native.footprint import Footprint, footprint
from tests.native.looking import Report, look

INSTANCE = f"nt-{os.getpid()}-{secrets.token_hex(3)}"


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    directory = tmp_path_factory.mktemp("native")
    directory.chmod(0o755)
    stage = directory / "stage"
    stage.mkdir()
    image = host_image.build(directory / "images", {})
    # A place that file rights leave open to everybody, so that Landlock alone closes it.
    (image.lower / "opt" / "open").mkdir(mode=0o777)
    (image.lower / "opt" / "open").chmod(0o777)
    policy = Settings().policy_path / "seccomp" / "default.json"
    cgroups = find(INSTANCE)
    init_fd = seal_init(testing=True)
    try:
        yield Workshop(init_fd, cgroups, image, stage, compile_seccomp(policy.read_bytes()))
    finally:
        os.close(init_fd)
        cgroups.sweep()
        cgroups.close()


@pytest.fixture
def nothing_left(workshop: Workshop) -> Iterator[None]:
    """The test fails if it leaves a process, descriptor, control group, mount or file."""
    before = _now(workshop.stage)
    yield
    assert _now(workshop.stage) == before


def _now(stage: Path) -> Footprint:
    return footprint(INSTANCE, stage)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """A program of `inside/`, compiled statically."""
    directory = tmp_path_factory.mktemp("compiled")

    @functools.cache
    def program(name: str) -> bytes:
        source = Path(__file__).parent / "inside" / f"{name}.c"
        target = directory / name
        subprocess.run(
            ["musl-gcc", "-static", "-O1", "-Wall", "-Werror", "-o", target, source], check=True
        )
        return target.read_bytes()

    return program


@pytest.fixture(scope="session")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file on the host that every user may read, on a path that every user may walk."""
    path = tmp_path_factory.mktemp("canary") / f"canary-{os.getpid()}"
    path.write_text("host")
    for directory in (path.parent, *path.parent.parents[:-2]):
        directory.chmod(directory.stat().st_mode | 0o055)
    path.chmod(0o644)
    return path


@pytest.fixture(scope="session")
def seen(workshop: Workshop, canary: Path) -> Report:
    return look(workshop, canary)
