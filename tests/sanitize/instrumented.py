"""Run by `make sanitize` alone: the core under test is the sanitised one, and a sanitiser bites."""

import os
import subprocess
import sys
from pathlib import Path

from sandboxd.native.core import _DIRECTORY

BUILD = Path(os.environ["NATIVE_BUILD"])


def test_every_python_uses_the_sanitised_build() -> None:
    assert BUILD == _DIRECTORY
    code = "from sandboxd.native.core import _DIRECTORY; print(_DIRECTORY)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == BUILD


def test_all_three_artefacts_are_instrumented() -> None:
    for name in ("_native.abi3.so", "sandbox-init-test"):
        assert b"__asan_report_load8" in (BUILD / name).read_bytes(), name
    # Traps instead of reports, so there is no name to look for; ud2 is what remains.
    assert (BUILD / "sandbox-init").read_bytes().count(b"\x0f\x0b") > 50


def test_read_beyond_a_message_ends_the_process() -> None:
    """The extension is called with a length that is a lie."""
    code = (
        "from sandboxd.native.core import ffi, lib\n"
        "verdict, six = ffi.new('uint32_t *'), ffi.new('uint64_t[6]')\n"
        "program = ffi.new('uint8_t[]', bytes([32, 0, 0, 0, 0, 0, 0, 0]) * 2)\n"
        "lib.sbx_evaluate(program, 1 << 20, 0, 0, six, verdict)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0 and "heap-buffer-overflow" in done.stderr
