"""Hosts with control groups of both versions, which crun refuses to start on, as does Podman over it."""

from pathlib import Path

_UNIFIED = "/sys/fs/cgroup/unified"
_ALONE = f'umount -l {_UNIFIED} && exec "$@"'


def driver() -> list[str]:
    """Before the command that drives such a peer: a mount namespace of its own, where version 2 is not
    mounted. Empty on other hosts."""
    if not Path(_UNIFIED, "cgroup.controllers").exists():
        return []
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ALONE, "sh"]
