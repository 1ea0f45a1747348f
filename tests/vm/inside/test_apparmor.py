"""AppArmor enforces here: a profile loads and denies what nothing else would deny to root."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.machine import PROJECT

NAME = "vm-lane-probe"
PROFILE = """
profile %s flags=(attach_disconnected) {
  file,
  capability,
  deny %s r,
}
"""
# The label is taken at the next exec, as the native core does it.
ENTER = 'printf "exec %s" "$1" > /proc/self/attr/apparmor/exec && exec cat "$2"'
POLICIES = sorted(path for path in (PROJECT / "policies/apparmor").glob("*") if path.is_file())


def parser(*arguments: str, text: str | None = None) -> None:
    done = subprocess.run(
        ["/usr/sbin/apparmor_parser", "--skip-cache", *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def loaded() -> dict[str, str]:
    """Mode of each profile that the kernel holds."""
    lines = Path("/sys/kernel/security/apparmor/profiles").read_text().splitlines()
    return {name: mode.rstrip(")") for name, _, mode in (line.rpartition(" (") for line in lines)}


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
    outside = subprocess.run(["cat", str(secret)], capture_output=True, text=True, check=True)
    inside = subprocess.run(
        ["sh", "-c", ENTER, "sh", profile, str(secret)], capture_output=True, text=True, check=False
    )
    assert outside.stdout == "seen\n"
    assert inside.stdout == ""
    assert "Permission denied" in inside.stderr


def test_unknown_profile_refuses_the_exec(secret: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", ENTER, "sh", "no-such-profile", str(secret)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stdout == ""


@pytest.mark.parametrize("policy", POLICIES, ids=lambda path: path.name)
def test_shipped_profile_loads_and_enforces(policy: Path) -> None:
    before = loaded()
    parser("--replace", str(policy))
    added = {name: mode for name, mode in loaded().items() if name not in before}
    parser("--remove", str(policy))
    assert added
    assert set(added.values()) == {"enforce"}
