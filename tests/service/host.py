"""What the host holds of one instance: looked up by name and uid, never guessed."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")


def cgroups(instance: str) -> list[str]:
    """Every cgroup directory, in any hierarchy, below one that carries the instance's name."""
    return sorted(
        directory
        for directory, _, _ in os.walk(CGROUPS)
        if re.search(rf"(^|[^a-z0-9]){instance}([^a-z0-9]|$)", directory)
    )


def mounts(instance: str) -> list[str]:
    """Lines of our own mount table that name the instance."""
    return [line for line in _mount_table("self") if instance in line]


def private_mounts(processes: list[int]) -> int:
    """Mounts in the mount namespaces of the processes, each namespace once, ours left out."""
    tables: dict[str, int] = {}
    for pid in processes:
        for link in _link(PROC / str(pid) / "ns" / "mnt"):
            tables[link] = len(_mount_table(str(pid)))
    for link in _link(PROC / "self" / "ns" / "mnt"):
        tables.pop(link, None)
    return sum(tables.values())


def _mount_table(pid: str) -> list[str]:
    try:
        return (PROC / pid / "mountinfo").read_text().splitlines()
    except OSError:
        return []


def pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def parent(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def state(pid: int) -> str | None:
    """`R`, `S`, `Z`…, or None if there is no such process."""
    fields = _stat(pid)
    return fields[0] if fields else None


def _stat(pid: int) -> list[str] | None:
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def argv(pid: int) -> list[str]:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid in pids():
        above = parent(pid)
        if above is not None:
            children.setdefault(above, []).append(pid)
    found, waiting = [], [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def processes_of_uids(among: range) -> list[int]:
    """Processes any of whose uids lies in the range."""
    found = []
    for pid in pids():
        try:
            text = (PROC / str(pid) / "status").read_text()
        except OSError:
            continue
        uids = re.search(r"^Uid:\s+(.*)$", text, re.MULTILINE)
        if uids and any(int(uid) in among for uid in uids[1].split()):
            found.append(pid)
    return found


def belongs_elsewhere(pid: int, instance: str) -> bool:
    """Whether its cgroup is that of another instance, whose uids may be the same."""
    try:
        text = (PROC / str(pid) / "cgroup").read_text()
    except OSError:
        return False
    return "/sandboxd-" in text and not re.search(rf"(?m)/sandboxd-{instance}(/|$)", text)


def processes_of_word(word: str) -> list[int]:
    """Processes whose argv or environment holds the word; not those that only look for it."""
    found = []
    for pid in pids():
        try:
            environment = (PROC / str(pid) / "environ").read_bytes()
        except OSError:
            environment = b""
        if pid != os.getpid() and (word.encode() in environment or word in " ".join(argv(pid))):
            found.append(pid)
    return found


def namespaces(processes: list[int]) -> set[str]:
    """Namespaces that the processes live in or hold open, but for spare networks."""
    return {
        link
        for pid in processes
        for folder in ("ns", "fd")
        for link in _links(PROC / str(pid) / folder)
        if re.fullmatch(r"(user|mnt|pid|net|ipc|uts|cgroup|time)(_for_children)?:\[\d+\]", link)
        and not (folder == "fd" and _SPARE.match(link))
    }


def fds(pid: int) -> int:
    return sum(1 for link in _links(PROC / str(pid) / "fd") if not _SPARE.match(link))


_SPARE = re.compile(r"net:\[")
"""A network namespace held by descriptor: the node keeps as many for the next sandboxes as were in use at
once. That none is lost, the tests of its drivers watch."""


def rss(pid: int) -> int:
    """Bytes of memory resident and its own: files that are only mapped do not count."""
    text = (PROC / str(pid) / "status").read_text()
    return 1024 * sum(int(kib) for kib in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+)", text, re.M))


def _links(folder: Path) -> Iterator[str]:
    try:
        entries = list(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        yield from _link(entry)


def _link(path: Path) -> Iterator[str]:
    """Where it points, unless the process ended meanwhile."""
    try:
        yield str(path.readlink())
    except OSError:
        return
