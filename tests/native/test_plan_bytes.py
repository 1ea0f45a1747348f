"""Plans that no encoder of ours would make: init answers with a named fault, or builds; never else."""

import errno
import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandboxd.native import Plan
from sandboxd.native.core import ABI, STAGES, ffi, lib
from tests.native.box import Workshop

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left")]

_ALLOW_ALL = b"\x06\x00\x00\x00\x00\x00\xff\x7f"
_HEAD = 56


def small(workshop: Workshop) -> Plan:
    """A whole plan of few bytes."""
    return workshop.plan(seccomp=_ALLOW_ALL, masks=("kcore", "acpi"))


def fate(workshop: Workshop, plan: bytes) -> tuple[str, int]:
    """Stage and errno of the fault, or `("built", 0)`; then the sandbox is ended again."""
    sandbox, error = ffi.new("struct sbx_sandbox *"), ffi.new("struct sbx_error *")
    origin = ffi.new("struct sbx_origin *", (workshop.init_fd, -1, -1, -1))
    if lib.sbx_build(origin, plan, len(plan), (), 0, 8_000, sandbox, error) != 0:
        return STAGES[error.stage], error.err
    assert lib.sbx_reap(sandbox.pidfd, 5_000) == 0
    for fd in (sandbox.pidfd, sandbox.control, sandbox.exec, sandbox.scratch):
        assert fd >= 0
        os.close(fd)
    return "built", 0


def test_plan_cut_at_any_length_is_a_plan_fault(workshop: Workshop) -> None:
    whole = small(workshop).encode(ABI, 0)
    assert fate(workshop, whole) == ("built", 0)
    for length in range(len(whole)):
        number = errno.EINVAL if length < _HEAD else errno.EPROTO
        assert fate(workshop, whole[:length]) == ("plan", number), length


@pytest.mark.parametrize("tail", [b"\0", b"x" * 100, b"\0" * 70_000])
def test_plan_with_a_tail_is_a_plan_fault(workshop: Workshop, tail: bytes) -> None:
    assert fate(workshop, small(workshop).encode(ABI, 0) + tail)[0] == "plan"


@pytest.mark.parametrize("version", [0, ABI + 1, 255])
def test_plan_of_another_version_is_a_plan_fault(workshop: Workshop, version: int) -> None:
    assert fate(workshop, small(workshop).encode(version, 0)) == ("plan", errno.EPROTO)


@pytest.mark.parametrize("cgroups", [1, 15, 16, 0xFFFF_FFFF])
def test_plan_that_counts_descriptors_wrongly_is_a_plan_fault(
    workshop: Workshop, cgroups: int
) -> None:
    assert fate(workshop, small(workshop).encode(ABI, cgroups)) == ("plan", errno.EPROTO)


telling = st.sampled_from([0, 1, ord("."), ord("/"), 0x7F, 0xFF])
edits = st.lists(
    st.tuples(st.integers(0, 10_000), telling | st.integers(0, 255)), min_size=1, max_size=6
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(edits=edits, head_only=st.booleans())
def test_mutated_plan_builds_or_names_its_fault(
    workshop: Workshop, edits: list[tuple[int, int]], head_only: bool
) -> None:
    plan = bytearray(small(workshop).encode(ABI, 0))
    for position, byte in edits:
        plan[position % (_HEAD if head_only else len(plan))] = byte
    # A program that kills whoever reports would be obeyed: not the mutation that is meant.
    program = small(workshop).encode(ABI, 0).index(_ALLOW_ALL)
    plan[program : program + len(_ALLOW_ALL)] = _ALLOW_ALL
    begin = time.monotonic()
    stage, number = fate(workshop, bytes(plan))
    assert number != errno.ETIMEDOUT and time.monotonic() - begin < 8
    # `spawn` would be an init that died without a word: a crash.
    assert stage != "spawn"


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(noise=st.binary(min_size=_HEAD, max_size=600))
def test_noise_is_a_plan_fault(workshop: Workshop, noise: bytes) -> None:
    assert fate(workshop, noise)[0] == "plan"
