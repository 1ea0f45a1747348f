"""The same probes without a sandbox: as root, in namespaces that are thrown away afterwards.

What a layer of ours refuses must go otherwise here, or the refusal proves nothing.
"""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.attack.case import Lines
from tests.patience import PATIENCE

_WITHIN = 30.0 * PATIENCE
_SETUP = """
mount -t tmpfs none /opt && mkdir /opt/attack && mount --bind "$0" /opt/attack &&
mount -t proc proc /proc && mount --bind /dev/null /proc/softirqs &&
{ ip link set lo up || true; } && trap '' USR1 || exit 1
sleep 60 >/dev/null 2>&1 &
exec 7</etc/passwd
"$@"
kill $!
"""
"""The shell stays process 1 and has a neighbour; a cover lies on /proc/softirqs, as in a sandbox."""
_OWN_NETWORK = "echo 0 4294967294 >/proc/sys/net/ipv4/ping_group_range || exit 1\n"
"""Every group may have ping sockets, as on many hosts; a new network namespace lets none."""


def run(
    shown: Path,
    argv: tuple[str, ...],
    *,
    network: bool = True,
    pids: bool = True,
    under: Sequence[str] = (),
) -> Lines:
    """What `probe ARGV` says; `network` and `pids`: in namespaces of its own; `under`: started by this
    command, which puts a layer on itself and execs the rest of its arguments. Nothing, if it was ended.
    """
    script = (_OWN_NETWORK if network else "") + _SETUP
    done = subprocess.run(
        ["unshare", "--mount", "--fork", "--ipc", "--uts", *(["--net"] if network else []),
         *(["--pid"] if pids else []), "--kill-child", "setsid", "sh", "-c", script, str(shown), *under,
         "/opt/attack/probe", *argv],
        capture_output=True, timeout=_WITHIN, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if not done.stdout and done.returncode and not under:
        raise AssertionError(f"outside: {done.stderr.decode(errors='replace')}")
    return parse(done.stdout.decode())


def parse(text: str) -> Lines:
    """A dictionary of the probe's lines, repeated keys numbered from the second on."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        for key, value in json.loads(line).items():
            name = key
            while name in found:
                stem, _, count = name.partition("#")
                name = f"{stem}#{int(count or 1) + 1}"
            found[name] = value
    return found
