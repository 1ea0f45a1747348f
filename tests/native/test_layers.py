"""Each layer stops what it is there for: shown by leaving it out, which the test build can."""

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxd.errors import NativeFault
from tests.native.box import Workshop, run, without
from tests.native.looking import PROBES, Report, libc, look
from tests.policies.seccomp_policy import NUMBERS

pytestmark = pytest.mark.root


def test_keyring_is_the_jobs_own(workshop: Workshop) -> None:
    """Asked without the filters, which refuse every key call: init joined a new one."""
    script = b"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
serial = libc.syscall(ctypes.c_long(%d), 0, -3, 0)
text = ctypes.create_string_buffer(200)
libc.syscall(ctypes.c_long(%d), 6, serial, text, 200)
print(serial, text.value.decode())
""" % (NUMBERS["keyctl"], NUMBERS["keyctl"])
    own = libc.syscall(ctypes.c_long(NUMBERS["keyctl"]), 0, -3, 0)
    with workshop.sandbox(skip_layers=without("seccomp", "floor")) as native:
        ran = run(native, ["/usr/bin/python3", "-IS", "k.py"], {}, [("k.py", 0o644, script)])
    serial, _, description = ran.out().decode().partition(" ")
    assert int(serial) > 0 and int(serial) != own
    assert description.startswith("keyring;")


def test_filter_answers_before_the_kernel_does(seen: Report) -> None:
    assert seen["calls"] == {name: answer for name, (_, answer, _) in PROBES.items()}


def test_without_seccomp_the_kernel_itself_answers(workshop: Workshop, canary: Path) -> None:
    bare = look(workshop, canary, skip_layers=without("seccomp", "floor"))
    assert bare["calls"] == {name: answer for name, (_, _, answer) in PROBES.items()}
    assert bare["status"]["Seccomp"] == "0"


def test_the_floor_holds_below_a_policy_that_allows_everything(
    workshop: Workshop, canary: Path
) -> None:
    """What it refuses, and nothing else: the kernel itself answers the other calls."""
    everything = struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF_0000)
    held = look(workshop, canary, seccomp=everything)
    refused = {"add_key", "perf_event_open", "setns"}
    assert held["calls"] == {
        name: "EPERM" if name in refused else answer for name, (_, _, answer) in PROBES.items()
    }
    bare = look(workshop, canary, seccomp=everything, skip_layers=without("floor"))
    assert bare["calls"] == {name: answer for name, (_, _, answer) in PROBES.items()}


def test_init_has_the_floor_too(workshop: Workshop) -> None:
    with workshop.sandbox() as native:
        status = Path(f"/proc/{native.pid}/status").read_text()
    assert "\nSeccomp:\t2\nSeccomp_filters:\t1\n" in status


def test_without_landlock_an_open_directory_of_the_image_is_written_to(
    workshop: Workshop, canary: Path, seen: Report
) -> None:
    assert seen["create"]["/opt/open"] == errno.EACCES
    bare = look(workshop, canary, skip_layers=without("landlock"))
    assert bare["create"]["/opt/open"] == 0
    lower = workshop.image.lower / "opt" / "open"
    assert os.listdir(lower) == []  # it was the sandbox's own copy all the same


def test_without_the_capability_stage_the_bounding_set_is_full(
    workshop: Workshop, canary: Path, compiled: Callable[[str], bytes]
) -> None:
    skip = without("capabilities")
    assert int(look(workshop, canary, skip_layers=skip)["status"]["CapBnd"], 16) != 0
    with workshop.sandbox(skip_layers=skip) as native:
        ran = run(native, ["./start"], {}, [("start", 0o755, compiled("start"))])
    assert b"securebits 0\n" in ran.out()


def test_without_no_new_privs_the_flag_is_off_and_no_filter_loads(
    workshop: Workshop, canary: Path
) -> None:
    skip = without("no_new_privs", "landlock")
    with pytest.raises(NativeFault) as caught, workshop.sandbox(skip_layers=skip):
        pass
    assert (caught.value.stage, caught.value.errno) == ("seccomp", errno.EACCES)
    bare = look(workshop, canary, skip_layers=skip | without("seccomp"))
    assert bare["status"]["NoNewPrivs"] == "0"


def test_layers_that_held_are_reported_and_only_those(workshop: Workshop) -> None:
    whole = {
        "cgroupns", "overlay", "masked_proc", "userns", "capabilities", "no_new_privs", "seccomp",
        "landlock",
    }  # fmt: skip
    with workshop.sandbox() as native:
        assert native.layers == whole
    skipped = ("landlock", "no_new_privs", "seccomp")
    with workshop.sandbox(skip_layers=without(*skipped)) as native:
        assert native.layers == whole - {*skipped}
