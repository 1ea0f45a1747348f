"""Which layer stops what: each core case with all layers but one left out, and with one left out.

What a sandbox is made of and cannot be without (its root, its process and ipc namespaces, its /dev,
its control groups, its user) is called structure. A case that structure stops is tried outside of any
sandbox too, as root, behind the seccomp policy alone. One that is kept out of the host's tree is tried
once more with a way there in its hands: a descriptor of a root that is not its own. This kernel may lack
AppArmor; what its profile stops alone is proved in the virtual machine, by tests/vm/inside/test_layers.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

from tests.attack import arsenal, outside
from tests.attack.cases.power import APPARMOR, DEEDS, OF_THE_HOSTS_TREE
from tests.attack.direct import Bench, benches
from tests.attack.judging import Deed
from tests.policies.seccomp_policy import PROGRAM

SWITCHES = (
    "cgroupns", "masked_proc", "userns", "capabilities", "no_new_privs", "seccomp", "landlock",
    "netns", "mount_flags", "identity", "hidepid", "oom_score", "floor",
)  # fmt: skip
STRUCTURE = "structure"
TABLE = Path(__file__).parents[2] / "SECURITY.md"
"""It ends with the table, which a test compares with a survey; `make attack ARGS=--write` renews it."""
_BEGIN, _END = "<!-- layers: begin -->", "<!-- layers: end -->"
_FILTERED = Path(__file__).with_name("filtered.py")
WITHIN = 380.0
"""Seconds for a survey on a starved machine; an idle one takes ten."""


@dataclass(frozen=True)
class Caught:
    deed: Deed
    alone: tuple[str, ...]
    """Layers of which each stops it with all others left out."""
    needed: tuple[str, ...]
    """Layers without which, all others in place, it works."""
    together: bool
    """It fails with every layer in place."""

    @property
    def wrong(self) -> str:
        """Why this is not enough; empty if it is."""
        if not self.together:
            return "it works with every layer in place"
        by_one = len(self.alone) == 1
        if by_one and not self.deed.alone:
            return f"only {', '.join(self.alone)} stops it"
        if self.deed.alone and not by_one:
            return (
                f"a reason is given for one layer, and {', '.join(self.alone) or 'several'} stop it"
            )
        return ""


def catch(
    bench: Bench, deed: Deed, behind_seccomp: Callable[[Deed], bool], elsewhere: int
) -> Caught:
    switches = [name for name in SWITCHES if name not in deed.keep]

    def stopped(without: Iterable[str]) -> bool:
        lines = bench.probe(deed.argv, without)
        return lines is None or deed.failed(lines.get(deed.name))

    def stopped_elsewhere(without: Iterable[str]) -> bool:
        lines = bench.probe(("through", deed.name), without, elsewhere)
        return lines is None or deed.failed(lines.get(deed.name))

    def by_each(stopped: Callable[[Iterable[str]], bool]) -> tuple[str, ...]:
        return tuple(
            layer for layer in switches if stopped(other for other in switches if other != layer)
        )

    together = stopped(())
    proved = ("apparmor",) if deed.name in APPARMOR else ()
    if stopped(switches):
        filtered = ("seccomp",) if behind_seccomp(deed) else ()
        if deed.name in OF_THE_HOSTS_TREE and not stopped_elsewhere(switches):
            together = together and stopped_elsewhere(())
            filtered += by_each(stopped_elsewhere)
        return Caught(deed, (STRUCTURE, *filtered, *proved), (), together)
    needed = tuple(layer for layer in switches if not stopped((layer,)))
    return Caught(deed, by_each(stopped) + proved, needed, together)


@contextmanager
def another_root(directory: Path) -> Iterator[int]:
    """A descriptor of a tree as the host's is for its users, which no sandbox has."""
    directory.mkdir(mode=0o755)
    for name, mode in (("etc", 0o755), ("root", 0o700), ("run", 0o755), ("var", 0o755),
                       ("var/lib", 0o755), ("opt", 0o755), ("opt/attack", 0o755)):  # fmt: skip
        (directory / name).mkdir(mode=mode)
    for name, mode in (("etc/shadow", 0o640), ("root/own", 0o644), ("run/socket", 0o644),
                       ("var/lib/data", 0o644), ("opt/attack/env", 0o755)):  # fmt: skip
        (directory / name).write_text("x")
        (directory / name).chmod(mode)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def survey(benches: list[Bench], shown: Path, program: Path, elsewhere: int) -> list[Caught]:
    """Every deed that can be tried on this host. `program` is the seccomp policy, compiled; `elsewhere`
    is a descriptor of another root."""
    free = Queue[Bench]()
    for bench in benches:
        free.put(bench)

    def behind_seccomp(deed: Deed) -> bool:
        under = (sys.executable, "-I", "-S", str(_FILTERED), str(program))
        free, held = (
            outside.run(shown, deed.argv, network=deed.network, under=command).get(deed.name)
            for command in ((), under)
        )
        return not deed.failed(free) and deed.failed(held)

    def one(deed: Deed) -> Caught:
        bench = free.get()
        try:
            return catch(bench, deed, behind_seccomp, elsewhere)
        finally:
            free.put(bench)

    with ThreadPoolExecutor(len(benches)) as pool:
        return list(pool.map(one, (deed for deed in DEEDS if deed.possible())))


def table(caught: list[dict[str, Any]]) -> str:
    """Markdown: case, what it tries, the layers of which each stops it; and those beside the core,
    which one layer stops, with the reason."""
    promises = {deed.id: deed.promise for deed in DEEDS}
    rows = ["| case | promise | stopped by each of |", "|---|---|---|"]
    beside = [
        "| beside the core | promise | stopped by | why by nothing else |",
        "|---|---|---|---|",
    ]
    for one in caught:
        by = ", ".join(one["alone"]) or "several together"
        row = f"| {one['case']} | {promises[one['case']]} | {by} |"
        if one["reason"]:
            beside.append(f"{row} {one['reason']} |")
        else:
            rows.append(row)
    return "\n".join([*rows, "", *beside]) + "\n"


def committed() -> str:
    """The table of SECURITY.md."""
    return TABLE.read_text().partition(_BEGIN)[2].partition(_END)[0].strip() + "\n"


def write(text: str) -> None:
    head, _, rest = TABLE.read_text().partition(_BEGIN)
    TABLE.write_text(f"{head}{_BEGIN}\n{text}{_END}{rest.partition(_END)[2]}")


def survey_apart() -> list[dict[str, Any]]:
    """The survey in a process with a network of its own, which is what a sandbox without a network
    namespace then shares. One dictionary per case, as `main` writes them."""
    script = f"ip link set lo up && exec {shlex.quote(sys.executable)} -m tests.attack.layers"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=WITHIN, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> None:
    own, parents = (os.readlink(f"/proc/{pid}/ns/net") for pid in ("self", os.getppid()))
    if own == parents:
        sys.exit("needs a network namespace of its own: see survey_apart")
    directory = Path(tempfile.mkdtemp(prefix="sandboxd-layers-"))
    directory.chmod(0o711)
    try:
        weapons = arsenal.make(directory)
        program = directory / "seccomp"
        program.write_bytes(PROGRAM)
        with (
            benches(directory, weapons.outdoors, os.cpu_count() or 1) as all_benches,
            another_root(directory / "elsewhere") as elsewhere,
        ):
            for caught in survey(all_benches, weapons.outdoors, program, elsewhere):
                print(json.dumps({
                    "case": caught.deed.id, "alone": caught.alone, "needed": caught.needed,
                    "reason": caught.deed.alone, "wrong": caught.wrong,
                }))  # fmt: skip
        weapons.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
