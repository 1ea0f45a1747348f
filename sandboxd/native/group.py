"""Control groups in one call: a list of steps taken without the interpreter's lock."""

import errno
import os
from collections.abc import Sequence

from msgspec import Struct

from sandboxd.native import _native  # type: ignore[attr-defined]

ffi, lib = _native.ffi, _native.lib

_KINDS = {"make": 1, "read": 2, "write": 3, "set": 4, "event": 5}
_KEPT = frozenset({"read", "write", "event"})


class Step(Struct, frozen=True):
    """`make` its directory in a root; open a file to `read` or `write`; `set` value number `at`, which
    the kernel may round down to a multiple of `unit`; an `event`fd for kept descriptor number `at`."""

    kind: str
    root: int
    file: str = ""
    at: int = 0
    unit: int = 1


class Groups:
    """Makes and removes groups of one kind below directories that stay open."""

    def __init__(self, roots: Sequence[int], steps: Sequence[Step]) -> None:
        """`roots` are directories of control group trees, by descriptor; the caller keeps them open."""
        self._roots, self._count = ffi.new("int[]", list(roots)), len(roots)
        self._steps = ffi.new("struct sbx_step[]", len(steps))
        for target, step in zip(self._steps, steps, strict=True):
            target.kind, target.root = _KINDS[step.kind], step.root
            target.at, target.unit, target.file = step.at, step.unit, step.file.encode()
        self._files = [step.file for step in steps]
        self._kept = sum(1 for step in steps if step.kind in _KEPT)

    def make(self, name: str, values: Sequence[int]) -> list[int]:
        """What the steps keep, in their order. Raises OSError, naming the file; then nothing is left."""
        if min(values) < 0:  # which some files of the kernel take for "no limit"
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
        fds = ffi.new("int[]", self._kept)
        failed = lib.sbx_group_make(
            self._roots, self._count, name.encode(), self._steps, len(self._files), list(values),
            fds, self._kept,
        )  # fmt: skip
        if failed >= 0:
            raise OSError(ffi.errno, os.strerror(ffi.errno), f"{name}/{self._files[failed]}")
        return list(fds)

    def remove(self, name: str) -> None:
        """Blocks while processes are leaving the group, some seconds at most. Raises OSError."""
        if lib.sbx_group_remove(self._roots, self._count, name.encode()) != 0:
            raise OSError(ffi.errno, os.strerror(ffi.errno), name)
