"""Each profile of policies/apparmor/, alone: no seccomp, no namespace, no Landlock helps it here."""

import errno
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.inside.labels import labelled, loaded, parser
from tests.vm.inside.probes import ALLOWED, DENIED
from tests.vm.machine import PROJECT

POLICIES = PROJECT / "policies/apparmor"
LET_BE = {
    "sandboxd": set[str](),
    "sandboxd-session": {"write-etc"},  # what its user may write to is the image's matter
    "sandboxd-root": {"write-etc"},
    "sandboxd-build": {"write-etc", "run-from-memory"},  # it makes the image
}
"""What is denied to jobs and not to others."""
PROBES = ["/usr/bin/python3", "-I", "-S", str(Path(__file__).with_name("probes.py"))]


@pytest.fixture(scope="module", params=LET_BE)
def profile(request: pytest.FixtureRequest) -> Iterator[str]:
    before, policy = loaded(), str(POLICIES / request.param)
    parser("--replace", policy)
    (name,) = loaded().keys() - before.keys()
    yield name
    parser("--remove", policy)


def test_every_profile_is_tried() -> None:
    assert {path.name for path in POLICIES.iterdir()} == set(LET_BE)


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
    probe: str, profile: str, without_label: dict[str, int], under_label: dict[str, int]
) -> None:
    assert without_label[probe] == 0
    refused = (errno.EACCES, errno.EPERM)
    assert under_label[probe] in ((0,) if probe in LET_BE[profile] else refused)


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
