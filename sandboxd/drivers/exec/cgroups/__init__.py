"""Control groups: one interface, two implementations, chosen by what is mounted."""

from sandboxd.drivers.exec.cgroups.base import Cgroups, Group, LimitBelowUse, Present, Usage
from sandboxd.drivers.exec.cgroups.mounts import find

__all__ = ["Cgroups", "Group", "LimitBelowUse", "Present", "Usage", "find"]
