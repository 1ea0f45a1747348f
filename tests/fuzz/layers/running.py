"""Starts the target where it may do what the unpacking child may: as root of the layers' ids, no more."""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sandboxd.drivers.graph.unpack.parent import IDS
from sandboxd.settings import Settings
from tests.fuzz.layers.seeds import write

ROOT = Path(__file__).parents[3]
POSSIBLE = os.geteuid() == 0 and platform.machine() == "x86_64"
"""atheris is not built for other machines."""
MAX_LENGTH = 16_384


def fuzz(seconds: int, work: Path) -> "subprocess.CompletedProcess[str]":
    """For `seconds`; inputs that break a promise are left in `work` as layers-*."""
    base = Settings().graph.uid_base
    found = work / "layers"
    found.mkdir(parents=True, exist_ok=True)
    # A directory of its own, which the target's user can reach.
    with tempfile.TemporaryDirectory(prefix="sandboxd-fuzz-") as name:
        place, seeds = Path(name, "place"), Path(name, "seeds")
        Path(name).chmod(0o711)
        place.mkdir()
        write(seeds)
        options = [
            f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}", "-timeout=20", "-verbosity=0",
            "-print_final_stats=1", "-rss_limit_mb=1024", f"-artifact_prefix={place}/../found/layers-",
        ]  # fmt: skip
        broken, corpus = Path(name, "found"), Path(name, "corpus")
        for directory in (place, broken, corpus):
            directory.mkdir(exist_ok=True)
            os.chown(directory, base, base)
        for path in found.glob("corpus-*"):
            (corpus / path.name).write_bytes(path.read_bytes())
        target = [
            sys.executable,
            "-m",
            "tests.fuzz.layers.target",
            *options,
            str(corpus),
            str(seeds),
        ]
        environment = {**os.environ, "FUZZ_PLACE": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
        done = _run(base, target, environment, seconds + 120.0)
        for path in broken.iterdir():
            (work / path.name).write_bytes(path.read_bytes())
        for path in corpus.iterdir():
            (found / f"corpus-{path.name.removeprefix('corpus-')}").write_bytes(path.read_bytes())
    return done


def _run(
    base: int, argv: Sequence[str], environment: dict[str, str], within: float
) -> "subprocess.CompletedProcess[str]":
    """The target asks for its ids, which only somebody outside of its user namespace can give."""
    started = subprocess.Popen(
        argv, cwd=ROOT, env=environment, text=True, errors="replace",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert started.stdout is not None
    try:
        assert started.stdout.readline() == "map\n"
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{started.pid}/{kind}").write_text(f"0 {base} {IDS}")
        said, errors = started.communicate("go\n", within)
    except BaseException:
        started.kill()
        started.wait()
        raise
    return subprocess.CompletedProcess(argv, started.returncode, said, errors)
