"""Each fuzz target for a moment, from its committed corpus; `make fuzz` runs them for long."""

import base64
import subprocess
from pathlib import Path

import pytest

from tests.fuzz.building import HERE, TARGETS, build
from tests.fuzz.seeds import write

SECONDS = 3


@pytest.mark.unsanitized("targets are built with sanitizers of their own")
@pytest.mark.parametrize("name", TARGETS)
def test_target_keeps_its_promises(name: str, tmp_path: Path) -> None:
    write(tmp_path / "seeds")
    (tmp_path / "found").mkdir()
    done = subprocess.run(
        [build(name, tmp_path), f"-max_total_time={SECONDS}", "-max_len=4096", "-timeout=20",
         "-print_final_stats=1", f"-artifact_prefix={tmp_path}/broken-", tmp_path / "found",
         HERE / "corpus" / name, tmp_path / "seeds" / name],
        capture_output=True, text=True, errors="replace", timeout=60,
    )  # fmt: skip
    broken = [base64.b64encode(path.read_bytes()) for path in tmp_path.glob("broken-*")]
    assert done.returncode == 0, f"{broken}\n{done.stderr[-4000:]}"
    assert "stat::number_of_executed_units" in done.stderr
