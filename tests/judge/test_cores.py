"""Cores kept for judging: cases run there and nothing else does, and no program leaves its own."""

import os
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.drivers.exec.cgroups import find
from sandboxd.drivers.exec.cgroups.cores import Cpusets, numbers, rest
from sandboxd.drivers.exec.cgroups.mounts import parse
from sandboxd.errors import DriverFault
from tests.drivers.members import has_cpusets
from tests.native.footprint import roots
from tests.service.instance import running

WHERE = """
import os
before = os.sched_getaffinity(0)
try:
    os.sched_setaffinity(0, set(range(256)))
except OSError:
    pass
print(sorted(before), sorted(os.sched_getaffinity(0)))
"""


@given(st.sets(st.integers(0, 200), min_size=1), st.data())
def test_what_is_left_and_what_is_kept_are_everything(available, data):
    cores = data.draw(st.sets(st.sampled_from(sorted(available))))
    if cores == available:
        with pytest.raises(DriverFault):
            rest(available, cores)
    else:
        left = numbers(rest(available, cores))
        assert set(left) | cores == available
        assert not set(left) & cores


def test_lists_of_the_kernel_are_understood():
    assert numbers("0-2,5,7-8\n") == [0, 1, 2, 5, 7, 8]
    assert numbers("\n") == []


@pytest.mark.root
def test_what_a_dead_node_left_is_removed_by_one_that_keeps_no_cores():
    mount = parse(Path("/proc/self/mountinfo").read_text()).v1.get("cpuset")
    if mount is None:
        pytest.skip("no cpuset hierarchy of v1 is mounted")
    instance = f"cores-{os.getpid()}"
    os.close(Cpusets(mount, instance, []).rest)
    assert (mount / f"sandboxd-{instance}" / "rest").is_dir()
    cgroups = find(instance)
    cgroups.close()
    assert roots(instance) == []


def test_cases_have_a_core_and_everything_else_the_others():
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core cannot be kept and left")
    if not has_cpusets(parse(Path("/proc/self/mountinfo").read_text())):
        pytest.skip("this host has no cpusets")
    kept = cores[-1]
    with running(f"judge.cores={kept}") as service, httpx.Client(base_url=service.url) as api:
        for warm in ({}, {"env": {"PYTHONHASHSEED": "1"}}):
            run = {"language": "python", "source": WHERE, **warm}
            said = api.post("/v1/runs", json=run, timeout=60).json()["stdout"]
            assert said == f"{cores[:-1]} {cores[:-1]}\n"
            judged = api.post("/v1/submissions", timeout=60, json={
                **run, "cases": [{"answer": f"[{kept}] [{kept}]"}] * 6, "parallel": 3,
                "outputs": "failed",
            }).json()  # fmt: skip
            assert judged["verdict"] == "AC", judged
        instance = service.instance
        assert roots(instance)
    assert roots(instance) == []
