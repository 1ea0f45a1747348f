"""The profile of policies/apparmor/, alone: no seccomp, no namespace, no Landlock helps it here."""

import errno
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.inside.labels import labelled, loaded, parser
from tests.vm.inside.probes import ALLOWED, DENIED
from tests.vm.machine import PROJECT

POLICY = PROJECT / "policies/apparmor/sandboxd"
PROBES = ["/usr/bin/python3", "-I", "-S", str(Path(__file__).with_name("probes.py"))]


@pytest.fixture(scope="module")
def profile() -> Iterator[str]:
    before = loaded()
    parser("--replace", str(POLICY))
    (name,) = loaded().keys() - before.keys()
    yield name
    parser("--remove", str(POLICY))


@pytest.fixture(scope="module")
def without_label() -> dict[str, int]:
    return _outcome(PROBES)


@pytest.fixture(scope="module")
def under_label(profile: str) -> dict[str, int]:
    return _outcome(labelled(profile, PROBES))


def test_profile_loads_and_enforces(profile: str) -> None:
    assert loaded()[profile] == "enforce"


@pytest.mark.parametrize("probe", DENIED)
def test_profile_denies(
    probe: str, without_label: dict[str, int], under_label: dict[str, int]
) -> None:
    assert without_label[probe] == 0
    assert under_label[probe] in (errno.EACCES, errno.EPERM)


@pytest.mark.parametrize("probe", ALLOWED)
def test_profile_lets_honest_programs_be(
    probe: str, without_label: dict[str, int], under_label: dict[str, int]
) -> None:
    assert (without_label[probe], under_label[probe]) == (0, 0)


def _outcome(argv: list[str]) -> dict[str, int]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcome: dict[str, int] = json.loads(done.stdout)
    return outcome
