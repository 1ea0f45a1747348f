"""Limits of a session: what is asked for on top of what holds, and how it is put in force."""

from msgspec.structs import replace

from sandboxd.drivers.exec.base import Built
from sandboxd.drivers.exec.cgroups import LimitBelowUse
from sandboxd.drivers.exec.native import inodes
from sandboxd.errors import Conflict, NativeFault
from sandboxd.model.session import SessionLimits
from sandboxd.native import resize

OWN_PIDS = 4
"""Beside the limit: init, the armed runner, the file service, and one request of its."""


def merged(base: SessionLimits, wanted: SessionLimits) -> SessionLimits:
    """`base` with what is given in `wanted`. Pure."""
    given = {
        name: value
        for name in SessionLimits.__struct_fields__
        if (value := getattr(wanted, name)) is not None
    }
    return replace(base, **given)


def differ(built: Built, old: SessionLimits, new: SessionLimits) -> bool:
    """Whether there is anything to put in force."""
    return (
        built.group.limits != (new.memory, (new.pids or 0) + OWN_PIDS)
        or new.cpus != old.cpus
        or new.disk != built.disk
    )


def enforce(built: Built, old: SessionLimits, new: SessionLimits) -> None:
    """Put the difference in force; both are complete. Blocks: the kernel may have to reclaim. Raises
    Conflict where more is in use than it shall have, DriverFault."""
    assert new.memory is not None and new.pids is not None
    assert new.cpus is not None and new.disk is not None
    if new.memory < (old.memory or 0) and not built.group.fits(new.memory):
        raise Conflict("more memory is in use", field="limits.memory")
    try:
        built.group.limit(memory=new.memory, pids=new.pids + OWN_PIDS)
    except LimitBelowUse as error:
        raise Conflict(str(error), field="limits.memory") from error
    if new.cpus != old.cpus:
        built.group.set_cpus(new.cpus)
    if new.disk == built.disk:
        return
    try:
        resize(built.native.scratch, new.disk, inodes(new.disk))
    except NativeFault as error:
        raise Conflict(f"more of the disk is in use: {error}", field="limits.disk") from error
    built.disk = new.disk
