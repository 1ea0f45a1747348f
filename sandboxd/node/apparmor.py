"""Loads the job's AppArmor profile where the kernel has AppArmor."""

import subprocess
from pathlib import Path

from sandboxd.errors import DriverFault

_ENABLED = Path("/sys/module/apparmor/parameters/enabled")
_TIMEOUT = 30.0


def available() -> bool:
    return _ENABLED.is_file() and _ENABLED.read_text().strip() == "Y"


def load(profile: Path, parser: str) -> str:
    """Load (or replace) the profile, whose label is its file's name; empty without AppArmor.

    Raises DriverFault if the kernel has AppArmor and the profile does not load: a job must not run
    with less than the operator wrote down.
    """
    if not available():
        return ""
    try:
        done = subprocess.run(
            [parser, "--replace", "--skip-cache", str(profile)],
            capture_output=True, text=True, timeout=_TIMEOUT, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DriverFault("apparmor", "load the profile", str(error)) from error
    if done.returncode != 0:
        raise DriverFault("apparmor", "load the profile", done.stderr.strip())
    return profile.name
