"""The bench of images runs through and has a figure of each kind; what they are is not judged here."""

import os
import shutil
from pathlib import Path

import pytest

from loadtest import images

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not all(map(shutil.which, ("runc", "skopeo", "umoci", "docker-registry"))),
        reason="needs runc, skopeo, umoci and docker-registry",
    ),
]


def test_every_figure_is_measured_and_nothing_stays(tmp_path: Path) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    descriptors = len(os.listdir("/proc/self/fd"))
    lines = images.main(tmp_path, rounds=1, sandboxes=3, megabytes=4)
    told = "\n".join(lines)
    for what in ("root of 1 layers", "root of 100 layers", "untouched", "10 MB", "pull", "PSS"):
        assert what in told
    assert len({line.count("|") for line in lines}) == 1
    assert Path("/proc/self/mountinfo").read_text() == before
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1
