"""One probe in one sandbox, straight from the driver's test build, with layers left out."""

import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sandboxd.drivers.exec.base import Spec
from sandboxd.drivers.exec.cgroups import find
from sandboxd.drivers.exec.native import NativeDriver
from sandboxd.drivers.exec.uids import UidSlots
from sandboxd.drivers.graph import host_image
from sandboxd.native import ExecOrder, send_exec
from sandboxd.native.core import LAYERS
from tests.attack.case import Lines
from tests.attack.outside import parse
from tests.patience import PATIENCE
from tests.policies.seccomp_policy import PROGRAM

_WITHIN = 5.0 * PATIENCE
_UID_BASE = 0x3800_0000
_ENV = {"PATH": "/usr/bin:/bin"}


class Bench:
    """Builds sandboxes without some of their layers, and runs the probe in them."""

    def __init__(self, driver: NativeDriver, spec: Spec) -> None:
        self._driver, self._spec = driver, spec

    def probe(
        self, argv: tuple[str, ...], without: Iterable[str], stdin: int | None = None
    ) -> Lines | None:
        """What the probe says; None if it was ended before it could. Raises NativeFault."""
        self._driver.skip_layers = sum(1 << LAYERS.index(name) for name in without)
        built = self._driver.build(self._spec)
        out, inner = os.pipe2(os.O_CLOEXEC)
        try:
            order = ExecOrder(
                argv=("/opt/attack/probe", *argv), env=_ENV,
                open_files=256, stack=8 << 20, file_size=1 << 20,
            )  # fmt: skip
            send_exec(built.native.exec, order, stdin, inner, inner)
            os.close(inner)
            text = _read(out, built.native.pidfd)
        finally:
            os.close(out)
            self._driver.destroy(built)
        return parse(text) if text.startswith("{") else None


def _read(fd: int, pidfd: int) -> str:
    """Until the end of the stream; who takes too long is killed."""
    data, deadline = b"", time.monotonic() + _WITHIN
    while True:
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            return ""
        chunk = os.read(fd, 65_536)
        if not chunk:
            return data.decode()
        data += chunk


@contextmanager
def benches(directory: Path, shown: Path, count: int) -> Iterator[list[Bench]]:
    """`shown` appears as /opt/attack; without the layers it could be written, so it is a copy."""
    cgroups = find(f"attack{os.getpid()}")
    image = host_image.build(directory / "images", {"/opt/attack": str(shown)})
    spec = Spec(
        template="attack", image=image, seccomp=PROGRAM, apparmor="", cpus=1.0,
        memory=64 << 20, pids=32, disk=16 << 20,
    )  # fmt: skip
    uids, drivers = UidSlots(_UID_BASE, 16 * count, locks=directory / "locks"), []
    try:
        for number in range(count):
            stage = directory / f"stage{number}"
            stage.mkdir(mode=0o700)
            drivers.append(NativeDriver(cgroups, uids, stage, testing=True))
        yield [Bench(driver, spec) for driver in drivers]
    finally:
        for driver in drivers:
            driver.close()
        cgroups.close()
