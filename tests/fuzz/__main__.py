"""`make fuzz`: every target of the native core for FUZZ_SECONDS each, on the committed corpus.

New inputs stay in `build/fuzz`; `--merge` brings the smallest set that reaches the same code back into
the corpus. An input that breaks a promise is left in `build/fuzz` too, and named.
"""

import argparse
import subprocess
import sys

from tests.fuzz.building import HERE, TARGETS, build
from tests.fuzz.seeds import write

WORK = HERE.parents[1] / "build" / "fuzz"
MAX_LENGTH = 4096


def fuzz(name: str, seconds: int, *, merge: bool) -> bool:
    """Whether every promise held."""
    found, kept = WORK / name, HERE / "corpus" / name
    found.mkdir(parents=True, exist_ok=True)
    kept.mkdir(parents=True, exist_ok=True)
    executable = build(name, WORK)
    print(f"== {name}, {seconds} s", flush=True)
    command = [
        executable, f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}", "-timeout=10",
        "-verbosity=0", "-print_final_stats=1", f"-artifact_prefix={WORK}/{name}-", found, kept,
        WORK / "seeds" / name,
    ]  # fmt: skip
    if subprocess.run(command).returncode != 0:
        return False
    if merge:
        sources = [found, WORK / "seeds" / name]
        subprocess.run([executable, "-merge=1", "-verbosity=0", kept, *sources], check=True)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--merge", action="store_true")
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    write(WORK / "seeds")
    held = [fuzz(name, options.seconds, merge=options.merge) for name in options.targets or TARGETS]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
