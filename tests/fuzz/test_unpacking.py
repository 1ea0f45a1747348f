"""The unpacking of layers for a moment; `make fuzz` fuzzes it for long."""

import base64
from pathlib import Path

import pytest

from tests.fuzz.layers.running import POSSIBLE, fuzz

SECONDS = 4
MANY = 200
"""Inputs that even a starved machine tries in that time, the seeds among them."""


@pytest.mark.root
@pytest.mark.unsanitized("atheris brings a sanitizer runtime of its own")
@pytest.mark.skipif(not POSSIBLE, reason="needs root, and a machine that atheris is built for")
def test_unpacking_keeps_its_promises(tmp_path: Path) -> None:
    done = fuzz(SECONDS, tmp_path)
    broken = [base64.b64encode(path.read_bytes()) for path in tmp_path.glob("layers-*")]
    assert done.returncode == 0, f"{broken}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    units = done.stderr.partition("number_of_executed_units:")[2].split()[0]
    assert int(units) > MANY
    # Inputs were kept because they reached new code, so that coverage is what guides it.
    assert list((tmp_path / "layers").iterdir())
