"""Which layer stops what: each core case with all layers but one left out, and with one left out.

What a sandbox is made of and cannot be without (its root, its process and ipc namespaces, its /dev,
its control groups) is called structure; a case that structure stops is not asked further.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

from tests.attack import arsenal
from tests.attack.cases.power import DEEDS
from tests.attack.direct import Bench, benches
from tests.attack.judging import Deed

SWITCHES = (
    "cgroupns", "masked_proc", "userns", "capabilities", "no_new_privs", "seccomp", "landlock",
    "netns", "mount_flags", "identity", "hidepid", "oom_score",
)  # fmt: skip
STRUCTURE = "structure"
_WITHIN = 110.0


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
        if self.needed and not self.deed.alone:
            return f"only {', '.join(self.needed)} stops it"
        return ""


def catch(bench: Bench, deed: Deed) -> Caught:
    switches = [name for name in SWITCHES if name not in deed.keep]

    def stopped(without: Iterable[str]) -> bool:
        lines = bench.probe(deed.argv, without)
        return lines is None or deed.failed(lines.get(deed.name))

    together = stopped(())
    if stopped(switches):
        return Caught(deed, (STRUCTURE,), (), together)
    alone = tuple(
        layer for layer in switches if stopped(other for other in switches if other != layer)
    )
    needed = tuple(layer for layer in switches if not stopped((layer,)))
    return Caught(deed, alone, needed, together)


def survey(benches: list[Bench]) -> list[Caught]:
    """Every deed that can be tried on this host."""
    free = Queue[Bench]()
    for bench in benches:
        free.put(bench)

    def one(deed: Deed) -> Caught:
        bench = free.get()
        try:
            return catch(bench, deed)
        finally:
            free.put(bench)

    with ThreadPoolExecutor(len(benches)) as pool:
        return list(pool.map(one, (deed for deed in DEEDS if deed.possible())))


def table(caught: Iterable[dict[str, Any]]) -> str:
    """Markdown: case, the layers of which each stops it, those that nothing stands in for."""
    rows = ["| case | stopped by each of | by nothing else than |", "|---|---|---|"]
    for one in caught:
        sole = ", ".join(one["needed"]) + (f": {one['reason']}" if one["needed"] else "")
        rows.append(f"| {one['case']} | {', '.join(one['alone']) or 'several together'} | {sole} |")
    return "\n".join(rows) + "\n"


def survey_apart() -> list[dict[str, Any]]:
    """The survey in a process with a network of its own, which is what a sandbox without a network
    namespace then shares. One dictionary per case, as `main` writes them."""
    script = f"ip link set lo up && exec {shlex.quote(sys.executable)} -m tests.attack.layers"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=_WITHIN, check=False,
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
        with benches(directory, weapons.outdoors, os.cpu_count() or 1) as all_benches:
            for caught in survey(all_benches):
                print(json.dumps({
                    "case": caught.deed.id, "alone": caught.alone, "needed": caught.needed,
                    "reason": caught.deed.alone, "wrong": caught.wrong,
                }))  # fmt: skip
        weapons.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
