"""Sandboxes for tests, straight on the native core: build one, run one program, look at what is left."""

import os
import select
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sandboxd.drivers.exec.cgroups import Cgroups, Group
from sandboxd.drivers.exec.native import MASKS
from sandboxd.drivers.graph.host_image import Image
from sandboxd.native import (
    Armed,
    EndOfStream,
    ExecOrder,
    Exited,
    Failed,
    Native,
    Plan,
    Spawned,
    build,
    close_all,
    reap,
    receive,
    send_exec,
    send_spawn,
)
from sandboxd.native.core import LAYERS, STAGES
from tests.patience import PATIENCE

MIB = 1 << 20
WITHIN = 30.0 * PATIENCE
"""Seconds for one program."""
JOB_UID, INIT_UID = 0xC000_0000 + 1000, 0xC000_0000 + 999
"""Host uids far above the ranges that a node hands out."""


def stage(name: str) -> int:
    return STAGES.index(name)


def without(*layers: str) -> int:
    """`Plan.skip_layers` for these layers; the test build alone honours it."""
    return sum(1 << LAYERS.index(layer) for layer in layers)


class Ran(Struct, frozen=True, kw_only=True):
    """How a program ended. `status` as wait(2) gives it; `failed` if it never started."""

    status: int
    stdout: bytes
    stderr: bytes
    failed: Failed | None

    def out(self) -> bytes:
        """stdout of a program that was to succeed."""
        assert self.failed is None and self.status == 0, self
        return self.stdout


class Workshop:
    """What every build needs of this host: a group with its caps set, an image, a program."""

    def __init__(self, init_fd: int, cgroups: Cgroups, image: Image, stage: Path, seccomp: bytes):
        self.init_fd, self.cgroups, self.image = init_fd, cgroups, image
        self.stage, self.seccomp = stage, seccomp
        self._serial = 0

    def plan(self, **changes: Any) -> Plan:
        plan = Plan(
            hostname="sandbox",
            stage_dir=str(self.stage),
            lower=str(self.image.lower),
            binds=self.image.binds,
            masks=MASKS,
            seccomp=self.seccomp,
            disk=16 * MIB,
            inodes=1024,
            host_job_uid=JOB_UID,
            host_init_uid=INIT_UID,
        )
        return replace(plan, **changes)

    @contextmanager
    def group(self, *, memory: int = 192 * MIB, pids: int = 40) -> Iterator[Group]:
        """A control group of its own; gone, with whatever was in it, at the end."""
        self._serial += 1
        group = self.cgroups.make(f"t{self._serial}", memory=memory, pids=pids, cpus=1.0)
        try:
            yield group
        finally:
            group.remove()

    @contextmanager
    def sandbox(
        self, *, memory: int = 192 * MIB, pids: int = 40, **changes: Any
    ) -> Iterator[Native]:
        """A built sandbox, capped before anything runs in it."""
        with self.group(memory=memory, pids=pids) as group:
            native = build(
                self.init_fd, self.plan(**changes), tasks=group.tasks, cgroup=group.directory
            )
            try:
                yield native
            finally:
                reap(native.pidfd)
                close_all(native)


def spawn(native: Native, number: int, *, files: bool = False, root: bool = False) -> int:
    """One more process of a session; the host's end of its exec socket, once it is armed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        send_spawn(native.control, number, theirs.fileno(), files=files, root=root)
    answer = awaited(native.control)
    assert isinstance(answer, Spawned) and answer.errno == 0, answer
    armed = awaited(ours.fileno())
    assert isinstance(armed, Armed), armed
    return ours.detach()


def awaited(fd: int) -> object:
    """The next message of a socket."""
    ready, _, _ = select.select([fd], [], [], 10)
    assert ready, "no message within 10 s"
    message = receive(fd)
    assert message is not None
    return message


def order(
    argv: Sequence[str],
    env: Mapping[str, str] | None = None,
    files: Sequence[tuple[str, int, bytes]] = (),
    **changes: Any,
) -> ExecOrder:
    plain = ExecOrder(
        argv=argv,
        env={} if env is None else env,
        files=files,
        open_files=64,
        stack=8 * MIB,
        file_size=16 * MIB,
    )
    return replace(plain, **changes)


def run(
    native: Native,
    argv: Sequence[str],
    env: Mapping[str, str] | None = None,
    files: Sequence[tuple[str, int, bytes]] = (),
    stdin: bytes = b"",
    *,
    follow: bool = True,
    **changes: Any,
) -> Ran:
    """Give a built sandbox its one order and see it through; without `follow`, to the end of its
    main process only, though others hold its streams."""
    out, out_child = os.pipe2(os.O_CLOEXEC)
    err, err_child = os.pipe2(os.O_CLOEXEC)
    given: int | None = None
    if stdin:
        given = os.memfd_create("stdin")
        os.write(given, stdin)
        os.lseek(given, 0, os.SEEK_SET)
    try:
        send_exec(native.exec, order(argv, env, files, **changes), given, out_child, err_child)
    finally:
        for fd in (out_child, err_child, *(() if given is None else (given,))):
            os.close(fd)
    try:
        return _follow(native, out, err, whole=follow)
    finally:
        os.close(out)
        os.close(err)


def _follow(native: Native, out: int, err: int, *, whole: bool) -> Ran:
    kept = {out: bytearray(), err: bytearray()}
    exited: Exited | None = None
    open_fds = {out, err}
    deadline = time.monotonic() + WITHIN
    while exited is None or (whole and open_fds):
        waits = [*open_fds, *(() if exited else (native.control,))]
        ready, _, _ = select.select(waits, [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"no end within {WITHIN} s; so far {kept}"
        for fd in ready:
            if fd == native.control:
                message = receive(fd)
                assert isinstance(message, Exited), message
                exited = message
            elif data := os.read(fd, 65536):
                kept[fd] += data
            else:
                open_fds.discard(fd)
    last = receive(native.exec)
    assert last is None or isinstance(last, Failed | EndOfStream)
    return Ran(
        status=exited.status,
        stdout=bytes(kept[out]),
        stderr=bytes(kept[err]),
        failed=last if isinstance(last, Failed) else None,
    )
