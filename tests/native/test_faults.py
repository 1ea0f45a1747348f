"""A stage that fails is named exactly, and nothing of the sandbox is left on the host."""

import contextlib
import errno
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from sandboxd.errors import NativeFault
from sandboxd.native import Bind, build
from tests.native.box import Workshop, stage

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("nothing_left")]

INIT_STAGES = (
    "home", "cgroups", "private_mounts", "scratch", "overlay", "binds", "dev", "proc", "mask", "pivot",
    "hostname", "loopback", "userns", "runner", "capabilities", "quiet", "ready",
)  # fmt: skip
RUNNER_STAGES = ("session", "landlock", "apparmor", "no_new_privs", "resume", "seccomp", "armed")


def fault_of(workshop: Workshop, **changes: Any) -> NativeFault:
    with pytest.raises(NativeFault) as caught, workshop.sandbox(**changes):
        pass
    return caught.value


@pytest.mark.parametrize("name", [*INIT_STAGES, *RUNNER_STAGES])
def test_stage_that_fails_is_named_and_leaves_nothing(workshop: Workshop, name: str) -> None:
    for _ in range(5):  # what the two sides say at their end races; the answer must not
        fault = fault_of(workshop, fault_stage=stage(name))
        assert (fault.stage, fault.errno) == (name, errno.EL3HLT)


def test_injection_covers_every_stage_of_the_tables() -> None:
    """Read from the source, so that a new stage cannot be forgotten here."""
    native = Path(__file__).parents[2] / "sandboxd" / "native"
    header = (native / "proto.h").read_text()
    names = dict(
        part.split(', "')
        for line in header.splitlines()
        if line.startswith("\tX(") and '"' in line
        for part in [line.split("X(")[1].split('")')[0]]
    )
    tables = (native / "init.c").read_text() + (native / "runner.c").read_text()
    listed = {
        names[line.split("SBX_STAGE_")[1].split(",")[0]]
        for line in tables.splitlines()
        if line.startswith("\t{SBX_STAGE_")
    }
    assert listed - {"plan"} == {*INIT_STAGES, *RUNNER_STAGES}


def test_production_build_takes_no_orders_to_fail(workshop: Workshop) -> None:
    from sandboxd.native import close_all, reap, seal_init

    init_fd = seal_init()
    try:
        with workshop.group() as group:
            plan = workshop.plan(fault_stage=stage("mask"), skip_layers=0xFFFF)
            native = build(init_fd, plan, tasks=group.tasks, cgroup=group.directory)
            reap(native.pidfd)
            close_all(native)
        assert {"seccomp", "landlock", "capabilities", "no_new_privs"} <= native.layers
    finally:
        os.close(init_fd)


@pytest.mark.parametrize(
    ("changes", "name", "number"),
    [
        ({"lower": "/nonexistent/image"}, "overlay", errno.ENOENT),
        ({"lower": "/usr,upperdir=/etc"}, "overlay", errno.ENOENT),
        ({"lower": "/" + "x" * 5000}, "overlay", errno.ENAMETOOLONG),
        ({"stage_dir": "/nonexistent/stage"}, "scratch", errno.ENOENT),
        ({"seccomp": b""}, "seccomp", errno.EINVAL),
        ({"seccomp": b"\x06\x00\x00\x00\x00\x00\xff"}, "seccomp", errno.EINVAL),
        ({"seccomp": struct.pack("<HBBI", 0xFFFF, 0, 0, 0)}, "seccomp", errno.EINVAL),
        ({"seccomp": struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000) * 4097}, "seccomp", errno.EINVAL),
        ({"hostname": "h" * 100}, "hostname", errno.EINVAL),
        ({"apparmor": "a" * 300}, "apparmor", errno.ENAMETOOLONG),
        ({"job_uid": 0}, "plan", errno.EINVAL),
        ({"host_job_uid": 0}, "plan", errno.EINVAL),
        ({"host_init_uid": 0}, "plan", errno.EINVAL),
        ({"init_uid": 1000}, "plan", errno.EINVAL),
    ],
)
def test_what_the_kernel_refuses_is_named(
    workshop: Workshop, changes: dict[str, object], name: str, number: int
) -> None:
    fault = fault_of(workshop, **changes)
    assert (fault.stage, fault.errno) == (name, number)


def test_missing_bind_source_names_which_one(workshop: Workshop) -> None:
    binds = (Bind("/usr", "/usr"), Bind("/nonexistent/tool", "/opt/tool"))
    fault = fault_of(workshop, binds=binds)
    assert (fault.stage, fault.errno, fault.index) == ("binds", errno.ENOENT, 1)


@pytest.mark.parametrize("target", ["", "opt", "//etc", "/opt/../../../escaped", "/.."])
def test_bind_target_that_leads_out_is_refused_and_makes_nothing(
    workshop: Workshop, target: str
) -> None:
    before = set(os.listdir("/")), set(os.listdir(workshop.stage.parent))
    fault = fault_of(workshop, binds=(Bind("/usr", "/usr"), Bind("/usr/lib", target)))
    assert (fault.stage, fault.index) == ("binds", 1)
    assert (set(os.listdir("/")), set(os.listdir(workshop.stage.parent))) == before


def test_root_as_stage_is_never_written_to(workshop: Workshop) -> None:
    """chdir("/") stays below a mount that covers /: only the mount's own descriptor leads in."""
    before = set(os.listdir("/"))
    with contextlib.suppress(NativeFault), workshop.sandbox(stage_dir="/"):
        pass
    assert set(os.listdir("/")) == before


@pytest.mark.skipif(
    Path("/sys/module/apparmor/parameters/enabled").exists(), reason="this kernel has AppArmor"
)
def test_apparmor_label_without_apparmor_stops_the_build(workshop: Workshop) -> None:
    fault = fault_of(workshop, apparmor="sandboxd")
    assert (fault.stage, fault.errno) == ("apparmor", errno.ENOENT)


def test_init_that_cannot_be_executed_is_a_spawn_fault(workshop: Workshop) -> None:
    fd = os.memfd_create("not-a-program")
    try:
        os.write(fd, b"not a program")
        with pytest.raises(NativeFault) as caught, workshop.group() as group:
            build(fd, workshop.plan(), tasks=group.tasks, cgroup=group.directory)
    finally:
        os.close(fd)
    assert (caught.value.stage, caught.value.errno) == ("spawn", errno.ENOEXEC)


def test_init_that_ends_without_a_word_is_a_spawn_fault(workshop: Workshop) -> None:
    fd = os.memfd_create("true")
    try:
        os.write(fd, Path("/bin/true").read_bytes())
        with pytest.raises(NativeFault) as caught, workshop.group() as group:
            build(fd, workshop.plan(), tasks=group.tasks, cgroup=group.directory)
    finally:
        os.close(fd)
    assert (caught.value.stage, caught.value.errno) == ("spawn", errno.ECONNRESET)


def test_closed_tasks_file_stops_at_the_group(workshop: Workshop) -> None:
    with open("/dev/full", "wb") as full, pytest.raises(NativeFault) as caught:
        build(workshop.init_fd, workshop.plan(), tasks=(full.fileno(),))
    assert (caught.value.stage, caught.value.errno) == ("cgroups", errno.ENOSPC)
