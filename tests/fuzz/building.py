"""The fuzz targets of the native core, built by clang with libFuzzer, ASan and UBSan."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "sandboxd" / "native"

TARGETS: dict[str, Sequence[str]] = {
    "plan": ("plan.c", "wire.c"),
    "order": ("order.c", "wire.c"),
    "request": ("request.c", "order.c", "wire.c"),
    "wire": ("wire.c",),
    "building": ("wire.c",),
    "evaluate": ("seccomp.c",),
    "files": ("files.c", "wire.c"),
}
"""Name of `targets/NAME.c` -> the sources it is linked with."""

_FLAGS = (
    "-std=gnu11", "-g", "-O1", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror",
    "-Wno-missing-field-initializers", "-fno-omit-frame-pointer",
    "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all",
)  # fmt: skip


def build(name: str, directory: Path) -> Path:
    """The executable of target `name`, made anew in `directory`."""
    executable = directory / f"fuzz-{name}"
    sources = [NATIVE / source for source in TARGETS[name]]
    # Files of the same name as ours are told apart by their directory.
    subprocess.run(
        ["clang", *_FLAGS, f"-I{NATIVE}", HERE / "targets" / f"{name}.c", *sources,
         *(["-lseccomp"] if name == "evaluate" else []), "-o", executable],
        check=True,
    )  # fmt: skip
    return executable
