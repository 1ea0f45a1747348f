"""The whole matrix, in one tuple."""

from tests.matrix import (
    count_limits,
    disk_limits,
    exits,
    files_out,
    forbidden,
    inputs,
    languages,
    memory_limits,
    output,
    processes,
    time_limits,
)
from tests.matrix.case import Case

CASES: tuple[Case, ...] = (
    *languages.CASES,  # some compile for long, so they are handed in first
    *exits.CASES,
    *time_limits.CASES,
    *memory_limits.CASES,
    *count_limits.CASES,
    *disk_limits.CASES,
    *output.CASES,
    *processes.CASES,
    *inputs.CASES,
    *files_out.CASES,
    *forbidden.CASES,
)
