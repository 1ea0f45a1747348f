"""Control files: write, read, and say plainly which one failed."""

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandboxd.errors import DriverFault

PAGE = os.sysconf("SC_PAGE_SIZE")


@contextmanager
def faults(operation: str) -> Iterator[None]:
    """Translate OSError, naming the operation and the file."""
    try:
        yield
    except OSError as error:
        raise DriverFault(
            "cgroups", operation, f"{error.filename or ''} {error.strerror}"
        ) from error


def write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(fd)


def read_fd(fd: int) -> str:
    return os.pread(fd, 4096, 0).decode()


def value(text: str, key: str) -> int:
    """The number after `key` in a file of `key number` lines; 0 if it is not there."""
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name == key:
            return int(number)
    return 0


def set_exactly(path: Path, number: int, unit: int = 1) -> None:
    """Write a limit and read it back; the kernel may round it down to a multiple of `unit`, never up."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(fd, str(number).encode())
        text = read_fd(fd).strip()
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(fd)
    if not text.isdecimal() or not number - unit < int(text) <= number:
        raise DriverFault("cgroups", "set a limit", f"{path.name} reads {text}, not {number}")


def await_state(events: Path, frozen: bool, timeout: float) -> bool:
    """Until `cgroup.events` says that the group is frozen, or is not; False after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    fd = os.open(events, os.O_RDONLY | os.O_CLOEXEC)
    try:
        change = select.poll()
        change.register(fd, select.POLLPRI)
        while value(read_fd(fd), "frozen") != frozen:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            change.poll(left * 1000)
        return True
    finally:
        os.close(fd)


def remove_directory(directory: Path) -> None:
    """rmdir that waits out the moment between a process's death and its leaving the group."""
    for attempt in range(60):
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if attempt == 59:
                raise DriverFault("cgroups", "remove", f"{directory}: {error.strerror}") from error
            time.sleep(0.0005 * 1.12**attempt)
        else:
            return
