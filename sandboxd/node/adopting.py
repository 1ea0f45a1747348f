"""Sandboxes that have outlived the node before this one, taken over at its start.

The keeper gives descriptors and states back; a sandbox that is dead, or that cannot be taken over as it
was (its image is gone, its control group is), is left to the janitor, and told to be lost.
"""

import logging
import os
import select
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct

from sandboxd.drivers.exec.base import Built, Spec
from sandboxd.drivers.exec.native import NativeDriver
from sandboxd.drivers.graph.image import Image
from sandboxd.drivers.network.slots import KeptSlot
from sandboxd.errors import SandboxdError
from sandboxd.native import Native
from sandboxd.native.core import ABI
from sandboxd.node.mounts import Mounts
from sandboxd.node.network import Networks
from sandboxd.node.sessions.keeping import Kept
from sandboxd.node.sessions.kept import KeptProcess, KeptSession

log = logging.getLogger(__name__)

LOCKS = "locks"
"""Name under which the locks of uid ranges are kept."""
_session = msgspec.msgpack.Decoder(KeptSession).decode
_process = msgspec.msgpack.Decoder(KeptProcess).decode


class Adopted(Struct):
    kept: KeptSession
    built: Built
    processes: list[tuple[KeptProcess, list[int]]]


class Survivors:
    """What the keeper had, until it is taken over or let go."""

    def __init__(self, found: dict[str, Kept]) -> None:
        locks = found.pop(LOCKS, None)
        self.locks = locks.fds if locks is not None else []
        self._found = found
        self._sessions: dict[str, KeptSession] = {}
        for name in [name for name in found if "/" not in name]:
            kept = _understood(found[name])
            if kept is not None:
                self._sessions[name] = kept
            else:
                self._let_go(name)

    @property
    def groups(self) -> set[str]:
        """Names of control groups that are not to be swept."""
        return {kept.name for kept in self._sessions.values()}

    @property
    def slots(self) -> list[tuple[KeptSlot, int]]:
        """Of their networks, each with the namespace that it is in."""
        return [
            (kept.slot, self._found[name].fds[3])
            for name, kept in self._sessions.items()
            if kept.slot is not None
        ]

    def adopt(
        self,
        driver: NativeDriver,
        specs: Mapping[str, Spec],
        image: Callable[[str], Image],
        mounts: Mounts,
        networks: Networks | None,
    ) -> list[Adopted]:
        """Take over all that can be; `image` gives that of a digest, held once for the caller."""
        adopted = []
        for name, kept in list(self._sessions.items()):
            try:
                fds = self._found[name].fds
                built = self._adopt(driver, specs, image, mounts, networks, kept, fds)
            except SandboxdError as error:
                log.warning("sandbox %s cannot be taken over: %s", name, error)
                self._let_go(name)
                continue
            adopted.append(Adopted(kept, built, self._processes(name)))
            del self._found[name]
        for name in list(self._found):
            self._let_go(name)
        return adopted

    def _processes(self, name: str) -> list[tuple[KeptProcess, list[int]]]:
        """Those of a sandbox, with their descriptors; what cannot be read is let go later."""
        found = []
        for each in [each for each in self._found if each.startswith(f"{name}/")]:
            try:
                process = _process(self._found[each].state)
            except msgspec.MsgspecError:
                continue
            kept = self._found[each].fds
            if len(kept) == sum(process.open):
                found.append((process, kept))
                del self._found[each]
        return found

    def _adopt(
        self,
        driver: NativeDriver,
        specs: Mapping[str, Spec],
        image: Callable[[str], Image],
        mounts: Mounts,
        networks: Networks | None,
        kept: KeptSession,
        fds: list[int],
    ) -> Built:
        template = specs.get(kept.identity.template)
        if template is None:
            raise SandboxdError(f"there is no template {kept.identity.template} any more")
        request = kept.request
        mounted = mounts.of(kept.identity.tenant, request.volumes, request.data)
        spec = msgspec.structs.replace(template, mounts=mounted)
        held = image(kept.image) if kept.image else None
        if held is not None:
            spec = msgspec.structs.replace(spec, image=held)
        slot = None
        if kept.slot is not None:
            if networks is None:
                raise SandboxdError("there are no networks any more")
            spec = networks.spec(spec)
            slot = networks.driver.reclaim(kept.slot)
        control, pidfd, scratch, netns = fds
        # Its first runner is long gone; the owner of a sandbox closes this number with the others.
        exec_fd = os.dup(control)
        native = Native(kept.pid, pidfd, control, exec_fd, scratch, frozenset(kept.layers))
        try:
            return driver.adopt(
                kept.name,
                spec,
                native,
                uid=kept.uid,
                netns=netns,
                slot=slot,
                limits=kept.group_limits,
                disk=kept.disk,
            )
        except BaseException:
            os.close(exec_fd)
            if slot is not None and networks is not None:
                networks.driver.give_back(slot)
            raise
        finally:
            if held is not None and held.hold is not None:
                held.hold.drop()

    def _let_go(self, name: str) -> None:
        self._sessions.pop(name, None)
        for each in [each for each in self._found if each == name or each.startswith(f"{name}/")]:
            for fd in self._found.pop(each).fds:
                os.close(fd)


def _understood(found: Kept) -> KeptSession | None:
    """A sandbox that lives and speaks as we do; an older version's may not."""
    if len(found.fds) != 4 or _dead(found.fds[1]):
        return None
    try:
        kept = _session(found.state)
    except msgspec.MsgspecError:
        return None
    return kept if kept.abi == ABI else None


def _dead(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 0)[0])
