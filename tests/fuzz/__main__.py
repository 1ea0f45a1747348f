"""`make fuzz`: every target of the native core, and the unpacking of layers, for FUZZ_SECONDS each.

The native targets start from the committed corpus, the layers from one archive for each rule.
New inputs stay in `build/fuzz`; `--merge` brings the smallest set that reaches the same code back into
the corpus. An input that breaks a promise is left in `build/fuzz` too, and named.
"""

import argparse
import subprocess
import sys

from tests.fuzz.building import HERE, TARGETS, build
from tests.fuzz.layers import running as layers
from tests.fuzz.seeds import write

WORK = HERE.parents[1] / "build" / "fuzz"
MAX_LENGTH = 4096
LAYERS = "layers"


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


def fuzz_layers(seconds: int) -> bool:
    """Whether every promise held."""
    print(f"== {LAYERS}, {seconds} s", flush=True)
    if not layers.POSSIBLE:
        print("not here: needs root, and a machine that atheris is built for")
        return True
    done = layers.fuzz(seconds, WORK)
    if done.returncode != 0:
        print(done.stdout)
    figures = [line for line in done.stderr.splitlines() if line.startswith("stat::")]
    print("\n".join(figures) if done.returncode == 0 else done.stderr)
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, LAYERS, []], metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--merge", action="store_true")
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    write(WORK / "seeds")
    wanted = options.targets or [*TARGETS, LAYERS]
    held = [fuzz(name, options.seconds, merge=options.merge) for name in wanted if name != LAYERS]
    if LAYERS in wanted:
        held.append(fuzz_layers(options.seconds))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
