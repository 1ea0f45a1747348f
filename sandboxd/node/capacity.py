"""Admission: how much of the node is promised to running jobs. Pure."""

from msgspec import Struct


class Capacity(Struct):
    """CPU in thousandths of a core, memory in bytes."""

    cpu: int
    memory: int
    cpu_reserved: int = 0
    memory_reserved: int = 0

    @property
    def cpu_free(self) -> int:
        return self.cpu - self.cpu_reserved

    @property
    def memory_free(self) -> int:
        return self.memory - self.memory_reserved

    def reserve(self, cpu: int, memory: int) -> None:
        self.cpu_reserved += cpu
        self.memory_reserved += memory

    def free(self, cpu: int, memory: int) -> None:
        self.cpu_reserved -= cpu
        self.memory_reserved -= memory
