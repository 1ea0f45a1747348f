"""Loading AppArmor profiles and starting programs under one."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

# The label is taken at the next exec, as the native core does it.
ENTER = 'printf "exec %s" "$1" > /proc/self/attr/apparmor/exec && shift && exec "$@"'


def labelled(profile: str, argv: Sequence[str]) -> list[str]:
    """argv that runs the command under the profile, or fails."""
    return ["sh", "-c", ENTER, "sh", profile, *argv]


def parser(*arguments: str, text: str | None = None) -> None:
    """Run apparmor_parser; a profile is compiled afresh, never taken from a cache."""
    done = subprocess.run(
        ["/usr/sbin/apparmor_parser", "--skip-cache", *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def loaded() -> dict[str, str]:
    """Mode of each profile that the kernel holds."""
    lines = Path("/sys/kernel/security/apparmor/profiles").read_text().splitlines()
    return {name: mode.rstrip(")") for name, _, mode in (line.rpartition(" (") for line in lines)}
