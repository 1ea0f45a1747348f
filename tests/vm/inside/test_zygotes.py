"""A copy of a zygote never executes anything: it takes its AppArmor label by itself, at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.drivers.test_zygotes import Bench, job, script
from tests.vm.inside.labels import loaded, parser
from tests.vm.machine import PROJECT

POLICY = PROJECT / "policies/apparmor/sandboxd"

ASKS = """
import os, subprocess
print(open("/proc/self/attr/apparmor/current").read().strip())
print(subprocess.check_output(["/bin/cat", "/proc/self/attr/apparmor/current"], text=True).strip())
try:
    os.open("/dev/mem", os.O_RDONLY)
except OSError as error:
    print(type(error).__name__)
open("/tmp/x", "w").write("1")
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    before = loaded()
    parser("--replace", str(POLICY))
    bench = Bench(tmp_path)
    bench.driver.destroy(bench.driver.build(bench.cold))
    bench.started = replace(bench.started, apparmor="sandboxd")
    yield bench
    bench.close()
    if "sandboxd" not in before:
        parser("--remove", str(POLICY))


def test_a_copy_is_under_the_profile_from_before_its_order(bench: Bench) -> None:
    copy = bench.copy()
    assert bench.driver.zygotes.started == 1
    assert {"apparmor", "landlock"} <= copy.layers
    label = Path(f"/proc/{job(copy)}/attr/apparmor/current").read_text().strip()
    assert label == "sandboxd (enforce)"
    (zygote,) = bench.driver.zygotes.pids()
    assert Path(f"/proc/{zygote}/attr/apparmor/current").read_text().strip() == "unconfined"
    assert script(copy, ASKS).splitlines()[:2] == ["sandboxd (enforce)"] * 2
    bench.driver.destroy(copy)
