"""AppArmor enforces here: a profile loads and denies what nothing else would deny to root."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.inside.labels import labelled, loaded, parser

NAME = "vm-lane-probe"
PROFILE = """
profile %s flags=(attach_disconnected) {
  file,
  capability,
  deny %s r,
}
"""


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("seen\n")
    return path


@pytest.fixture
def profile(secret: Path) -> Iterator[str]:
    text = PROFILE % (NAME, secret)
    parser("--replace", text=text)
    yield NAME
    parser("--remove", text=text)


def test_apparmor_is_on_beside_landlock() -> None:
    assert Path("/sys/module/apparmor/parameters/enabled").read_text() == "Y\n"
    modules = Path("/sys/kernel/security/lsm").read_text().split(",")
    assert {"apparmor", "landlock"} <= set(modules)


def test_profile_denies_root_what_it_may_read_without(profile: str, secret: Path) -> None:
    assert loaded()[profile] == "enforce"
    outside = _run(["cat", str(secret)])
    inside = _run(labelled(profile, ["cat", str(secret)]))
    assert outside.stdout == "seen\n"
    assert inside.stdout == ""
    assert "Permission denied" in inside.stderr


def test_unknown_profile_refuses_the_exec(secret: Path) -> None:
    done = _run(labelled("no-such-profile", ["cat", str(secret)]))
    assert done.returncode != 0
    assert done.stdout == ""


def _run(argv: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, capture_output=True, text=True, check=False)
