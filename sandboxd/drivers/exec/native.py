"""The native execution driver: sandbox-init, control groups and uid slots put together."""

import logging
import os
import secrets
import select
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import msgspec

from sandboxd.drivers.exec import superuser
from sandboxd.drivers.exec.base import Built, Mount, Spec
from sandboxd.drivers.exec.cgroups import Cgroups, Group
from sandboxd.drivers.exec.uids import SLOT, UidSlots
from sandboxd.drivers.exec.zygotes import Zygotes, warm_up
from sandboxd.drivers.network.base import Slot
from sandboxd.drivers.network.none import NoNetwork
from sandboxd.errors import NativeFault
from sandboxd.native import (
    Native,
    Plan,
    build,
    close_all,
    idmap,
    reap,
    seal_init,
)

log = logging.getLogger(__name__)

MASKS: Sequence[str] = (
    "acpi", "asound", "buddyinfo", "bus", "cmdline", "config.gz", "diskstats", "driver",
    "dynamic_debug", "fs", "interrupts", "iomem", "ioports", "irq", "kallsyms", "kcore", "key-users",
    "keys", "kmsg", "kpagecgroup", "kpagecount", "kpageflags", "latency_stats", "locks", "modules",
    "mtrr", "pagetypeinfo", "partitions", "pressure", "sched_debug", "schedstat", "scsi", "slabinfo",
    "softirqs", "swaps", "sysrq-trigger", "sysvipc", "timer_list", "timer_stats", "tty",
    "vmallocinfo", "zoneinfo",
)  # fmt: skip
"""What /proc would tell of the host beyond what programs need (meminfo, cpuinfo, stat, sys stay)."""

_ALWAYS = frozenset({"pidns", "mountns", "netns", "ipcns", "utsns"})
"""Layers that sandbox-init is born with: clone3 fails if one of them cannot be had."""
_INODE_BYTES = 16_384
_BUILD_RESERVE = 8 << 20
_JOB, _INIT = 1000, 999
_NOBODY = 65_534
"""Owner of what nobody owns: the directories of a zygote, in which nothing runs but root."""


def inodes(disk: int) -> int:
    """Inodes of a scratch file system of `disk` bytes: one per 16 KiB, at least 1,024."""
    return max(1024, min(disk // _INODE_BYTES, 1 << 20))


def _owners(spec: Spec) -> int | None:
    """The first owner on disk of the image's files, if they are to be those of the sandbox."""
    image = spec.image
    return image.root_base if spec.root and image.uid_base is None else image.uid_base


class NativeDriver:
    def __init__(
        self, cgroups: Cgroups, uids: UidSlots, stage: Path, *, testing: bool = False
    ) -> None:
        """`stage` is an empty directory that each build covers in its own mount namespace."""
        self._cgroups, self._uids, self._stage = cgroups, uids, stage
        self._init_fd = seal_init(testing=testing)
        self.layers = _ALWAYS | cgroups.layers
        self._idmaps: dict[tuple[int, int], int] = {}
        self._no_network = NoNetwork()
        self.zygotes = Zygotes(self._start_zygote)
        self._landlocked = False
        """Whether the last sandbox was: a copy of a zygote relies on it."""
        self.fault_stage = 0
        self.skip_layers = 0

    def build(self, spec: Spec) -> Built:
        name = f"sb-{secrets.token_hex(8)}"
        uid = self._uids.take()
        try:
            group = self._cgroups.make(
                name,
                memory=max(spec.memory, _BUILD_RESERVE),
                pids=spec.pids + 1,
                cpus=spec.cpus,
            )
        except BaseException:
            self._uids.give_back(uid)
            raise
        network = spec.network or self._no_network
        try:
            if spec.session:
                group.kill_one()
            slot = network.take()
            try:
                native, copied = self._build(spec, uid, group, slot)
            except BaseException:
                network.give_back(slot)
                raise
        except BaseException:
            group.remove()
            self._uids.give_back(uid)
            raise
        group.settle()
        built = Built(
            name=name,
            spec=spec,
            native=native,
            group=group,
            uid=uid,
            slot=slot,
            layers=self.layers | native.layers,
            built_at=time.monotonic(),
            disk=spec.disk,
        )
        try:
            if spec.warm is not None and not copied:
                warm_up(built.native.exec, spec.warm.order)
            if spec.root:
                superuser.start(built.native)
        except BaseException:
            self.destroy(built)
            raise
        return built

    def _build(self, spec: Spec, uid: int, group: Group, slot: Slot) -> tuple[Native, bool]:
        """The sandbox, and whether its interpreter is a zygote's copy and waits for its order."""
        hold = spec.image.hold
        if hold is not None:
            hold.take()
        mounts: list[int] = []
        try:
            for mount in spec.mounts:
                mounts.append(mount.source.mount(uid))
            native, copied = self._native(spec, uid, group, slot, mounts)
            self._landlocked = "landlock" in native.layers
            return native, copied
        except BaseException:
            if hold is not None:
                hold.drop()
            for mount in spec.mounts[: len(mounts)]:
                mount.source.drop()
            raise
        finally:
            for fd in mounts:
                os.close(fd)

    def _native(
        self, spec: Spec, uid: int, group: Group, slot: Slot, mounts: Sequence[int]
    ) -> tuple[Native, bool]:
        start = partial(
            build,
            self._init_fd,
            tasks=group.tasks,
            cgroup=group.directory,
            mounts=mounts,
            idmap=self._idmap(spec, uid),
            netns=slot.fd,
        )
        try:
            with self._lend_zygote(spec) as zygote:
                if zygote >= 0:
                    return start(self._plan(spec, uid, warming=False), zygote=zygote), True
        except NativeFault as fault:
            if fault.stage != "spawn":
                raise
            log.warning("a zygote of %s makes no copy: %s", spec.template, fault)
        return start(self._plan(spec, uid, warming=True)), False

    def _lend_zygote(self, spec: Spec) -> AbstractContextManager[int]:
        """None where a layer is missing or left out: see native/zygote.c for what it relies on."""
        whole = self._landlocked and not (self.skip_layers or self.fault_stage)
        return self.zygotes.lend(spec) if whole else nullcontext(-1)

    def _start_zygote(self, spec: Spec) -> Native:
        plan = self._plan(spec, _NOBODY, warming=True)
        return build(self._init_fd, msgspec.structs.replace(plan, zygote=True))

    def _idmap(self, spec: Spec, uid: int) -> int:
        """The namespace that shows the image's owners as ids of the sandbox's range, or -1."""
        base = _owners(spec)
        return -1 if base is None else self.owner_map(base, uid)

    def owner_map(self, first: int, uid: int) -> int:
        """A user namespace that shows owners `first`… as those of the slot `uid`; it stays ours."""
        key = (first, uid)
        if key not in self._idmaps:
            self._idmaps[key] = idmap(first, uid, SLOT)
        return self._idmaps[key]

    def _plan(self, spec: Spec, uid: int, *, warming: bool) -> Plan:
        """`warming`: an interpreter will start in it."""
        build = spec.build_user is not None
        job = spec.build_user if spec.build_user is not None else _JOB
        init = SLOT - 1 if build or spec.root else _INIT
        return Plan(
            hostname="sandbox",
            stage_dir=str(self._stage),
            lower=str(spec.image.lower),
            below=[str(layer) for layer in spec.image.below],
            idmap=_owners(spec) is not None,
            binds=(
                *spec.image.binds,
                *(spec.warm.binds if spec.warm and warming else ()),
                *(superuser.BINDS if spec.root else ()),
            ),
            masks=MASKS,
            seccomp=spec.seccomp,
            apparmor=spec.apparmor,
            disk=spec.disk,
            inodes=inodes(spec.disk),
            mounts=[mount.target for mount in spec.mounts],
            build=build,
            session=spec.session,
            root=spec.root,
            job_uid=job,
            init_uid=init,
            host_job_uid=uid + job,
            host_init_uid=uid + init,
            fault_stage=self.fault_stage,
            skip_layers=self.skip_layers,
        )

    def adopt(
        self,
        name: str,
        spec: Spec,
        native: Native,
        *,
        uid: int,
        netns: int,
        slot: Slot | None,
        limits: tuple[int, int],
        disk: int,
    ) -> Built:
        """A sandbox of the node before this one that lives; the descriptors are ours from then on.
        `slot` is that of its network, if it has one. The image is held once more. Raises DriverFault."""
        self._uids.adopt(uid)
        try:
            group = self._cgroups.adopt(name, memory=limits[0], pids=limits[1])
        except BaseException:
            self._uids.give_back(uid)
            raise
        taken: list[Mount] = []
        try:
            for mount in spec.mounts:
                mount.source.retake()
                taken.append(mount)
        except BaseException:
            for mount in taken:
                mount.source.drop()
            self._uids.give_back(uid)
            raise
        if spec.image.hold is not None:
            spec.image.hold.take()
        if slot is None:
            slot = self._no_network.adopt(netns)
        else:
            os.close(netns)  # it has one of its own
        return Built(
            name=name,
            spec=spec,
            native=native,
            group=group,
            uid=uid,
            slot=slot,
            layers=self.layers | native.layers,
            built_at=time.monotonic(),
            disk=disk,
        )

    @property
    def locks(self) -> list[int]:
        """Descriptors by which the uid ranges are ours."""
        return self._uids.locks

    def lives(self, built: Built) -> bool:
        # The other end is that of the runner, or of the interpreter that waits: both go with init.
        exec_end = select.poll()
        exec_end.register(built.native.exec, 0)
        return not exec_end.poll(0)

    def destroy(self, built: Built) -> None:
        reap(built.native.pidfd)
        close_all(built.native)
        (built.spec.network or self._no_network).give_back(built.slot)
        built.group.remove()
        self._uids.give_back(built.uid)
        if built.spec.image.hold is not None:
            built.spec.image.hold.drop()
        for mount in built.spec.mounts:
            mount.source.drop()

    def close(self) -> None:
        self.zygotes.close()
        os.close(self._init_fd)
        self._no_network.close()
        for namespace in self._idmaps.values():
            os.close(namespace)
        self._idmaps.clear()
        self._uids.close()
