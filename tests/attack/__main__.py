"""`python -m tests.attack`: every case, what it came to, and which layer stops what.

Words choose the cases whose names hold one of them; `--write` alone renews the table of SECURITY.md.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.attack import layers
from tests.attack.case import Finding, Outcome
from tests.attack.suite import CASES, counted, fight


def main() -> int:
    begin = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="sandboxd-attack-"))
    directory.chmod(0o711)
    wanted = sys.argv[1:]
    if wanted == ["--write"]:
        layers.write(layers.table(layers.survey_apart()))
        return 0
    cases = tuple(case for case in CASES if not wanted or any(word in case.id for word in wanted))
    try:
        with fight(directory) as attack:
            attack.start(cases)
            findings: dict[str, Finding] = {}
            for case in cases:
                findings[case.id] = attack.findings[case.id].result()
                if findings[case.id].outcome is Outcome.BROKEN:
                    print(f"BROKEN   {case.id}: {findings[case.id].reason}", flush=True)
            harm = attack.after_all()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    for case in cases:
        if findings[case.id].outcome in (Outcome.VACUOUS, Outcome.OPEN):
            print(f"{findings[case.id].outcome.upper():8} {case.id}: {findings[case.id].reason}")
    for text in harm:
        print(f"HARM     {text}")
    print(f"{len(cases)} cases: {counted(findings)}, in {time.monotonic() - begin:.0f} s")
    bad = bool(harm) or any(f.outcome is Outcome.BROKEN for f in findings.values())
    return int(bad or (not wanted and not _layers()))


def _layers() -> bool:
    """Prints which layer stops what; whether it is enough."""
    caught = layers.survey_apart()
    text = layers.table(caught)
    print(f"\n{text}")
    beside = [one for one in caught if one["reason"]]
    print(f"{len(caught) - len(beside)} core cases, each stopped by two layers or more; "
          f"{len(beside)} beside them, for the reasons given")  # fmt: skip
    wrong = [one for one in caught if one["wrong"]]
    for one in wrong:
        print(f"BROKEN   {one['case']}: {one['wrong']}")
    return not wrong


if __name__ == "__main__":
    sys.exit(main())
