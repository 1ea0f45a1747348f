"""CPython's own tests, on both sides, compared test by test."""

import fnmatch
import json
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct, convert

HERE = Path(__file__).parent
SUITE = (HERE / "suite.py").read_text()

QUICK = (
    "test_os", "test_posix", "test_fcntl", "test_mmap", "test_resource", "test_pty", "test_select",
    "test_epoll", "test_tempfile", "test_shutil", "test_pathlib", "test_time", "test_glob",
    "test_asyncio.test_unix_events", "test_asyncio.test_streams", "test_ctypes.test_callbacks",
)  # fmt: skip
SLOW = (
    "test_subprocess", "test_threading", "test_socket", "test_socketserver", "test_signal",
    "test_selectors", "test_poll", "test_fork1", "test_wait3", "test_wait4", "test_ssl",
    "test_sqlite3.test_regression", "test_ioctl", "test_asyncio.test_events",
    "test_asyncio.test_subprocess", "test_multiprocessing_fork", "test_multiprocessing_spawn",
    "test_multiprocessing_forkserver", "test_multiprocessing_main_handling",
    "test_concurrent_futures", "test_io", "test_fileio", "test_largefile", "test_posixpath",
    "test_pwd", "test_grp", "test_tarfile", "test_zipfile", "test_gzip", "test_faulthandler",
    "test_thread", "test_eintr", "test_popen", "test_openpty", "test_httpservers", "test_ftplib",
    "test_smtplib", "test_urllib2_localnet", "test_platform", "test_cmd_line", "test_sys",
    "test_mailbox", "test_random", "test_hashlib", "test_uuid", "test_gc", "test_venv",
)  # fmt: skip


class Difference(Struct, frozen=True, forbid_unknown_fields=True):
    """One accepted difference, from `differences.toml`."""

    tests: list[str]
    """Patterns of test ids."""
    outside: str
    inside: str
    why: str

    def covers(self, test: str, outside: str, inside: str) -> bool:
        return (outside, inside) == (self.outside, self.inside) and any(
            fnmatch.fnmatchcase(test, pattern) for pattern in self.tests
        )


class Side(Struct, frozen=True):
    """What one side said of a module."""

    outcomes: dict[str, str]
    why: dict[str, str]


def differences() -> list[Difference]:
    text = (HERE / "differences.toml").read_text()
    return convert(tomllib.loads(text)["difference"], list[Difference])


def command(seconds: float, tests: Sequence[str]) -> list[str]:
    return ["/usr/bin/python3", "-B", "suite.py", str(seconds), *tests]


def read(stdout: str) -> Side:
    """A test of which subtests failed has several lines; the worst of them counts."""
    side = Side({}, {})
    for line in stdout.splitlines():
        if not line.startswith('{"id"'):
            continue  # a fault handler's words
        try:
            record = json.loads(line)
        except ValueError:
            continue  # cut by the end
        if record["id"] and side.outcomes.get(record["id"]) != "failed":
            side.outcomes[record["id"]] = record["outcome"]
            side.why[record["id"]] = record["why"]
    return side


def differing(outside: Side, inside: Side) -> list[str]:
    """Tests that ended on both sides, but not alike. What only one side reached is not compared."""
    both = outside.outcomes.keys() & inside.outcomes.keys()
    return sorted(test for test in both if outside.outcomes[test] != inside.outcomes[test])


def unexplained(
    outside: Side, inside: Side, tests: Iterable[str], accepted: Sequence[Difference]
) -> list[str]:
    found = []
    for test in tests:
        there, here = outside.outcomes.get(test, "-"), inside.outcomes.get(test, "-")
        if there != here and not any(d.covers(test, there, here) for d in accepted):
            found.append(f"{test}: outside {there}, inside {here}\n{inside.why.get(test, '')}")
    return found
