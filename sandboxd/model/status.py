"""How a program ended."""

from enum import StrEnum


class Status(StrEnum):
    """The one terminal status of a run."""

    OK = "ok"
    NONZERO_EXIT = "nonzero_exit"
    SIGNALLED = "signalled"
    CPU_TIME_EXCEEDED = "cpu_time_exceeded"
    WALL_TIME_EXCEEDED = "wall_time_exceeded"
    MEMORY_EXCEEDED = "memory_exceeded"
    OUTPUT_EXCEEDED = "output_exceeded"
    DISK_EXCEEDED = "disk_exceeded"
    SECURITY_VIOLATION = "security_violation"
    COMPILE_ERROR = "compile_error"
    CANCELLED = "cancelled"
    INTERNAL_ERROR = "internal_error"
