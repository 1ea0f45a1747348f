"""The other side of the comparison: the same image, user and limits, and none of our policy.

bubblewrap, started by an ordinary user, gives a program namespaces of its own and the root file
system that a sandbox would have; no seccomp, no Landlock, no control group.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence

from msgspec import Struct

from sandboxd.drivers.graph.image import Image

USER = 64_998
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/work", "LANG": "C.UTF-8"}


class Ended(Struct, frozen=True):
    exit_code: int
    """Minus the signal, if one ended it."""
    stdout: str
    stderr: str


def run(
    image: Image,
    command: Sequence[str],
    files: Mapping[str, str],
    *,
    seconds: float,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
) -> Ended:
    """One program with `files` (by path below /work) beside it."""
    argv = [
        # A shell's background job ignores SIGINT, and so would its children.
        "env", "--default-signal",
        "prlimit", "--nofile=1024", "--core=0", "--stack=67108864", "--memlock=65536",
        "--fsize=536875008", "--",
        "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--",
        "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--uid", "1000",
        "--gid", "1000", "--hostname", "sandbox", "--proc", "/proc", "--dev", "/dev",
        "--tmpfs", "/tmp", "--dir", "/var/tmp", "--tmpfs", "/work", "--chdir", "/work",
        "--ro-bind", str(image.lower / "etc"), "/etc",
    ]  # fmt: skip
    for bind in image.binds:
        argv += ["--ro-bind", bind.source, bind.target]
    for link in image.lower.iterdir():
        if link.is_symlink():
            argv += ["--symlink", str(link.readlink()), f"/{link.name}"]
    given = []
    for name, text in files.items():
        fd = _memory(text)
        given.append(fd)
        argv += ["--perms", "0755", "--file", str(fd), f"/work/{name}"]
    try:
        done = subprocess.run(
            [*argv, "--", *command], input=stdin, capture_output=True, text=True, errors="replace",
            timeout=seconds, env=ENVIRONMENT | dict(env or {}), pass_fds=given, cwd="/",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        out = error.stdout or b""
        return Ended(-9, out.decode(errors="replace") if isinstance(out, bytes) else out, "")
    finally:
        for fd in given:
            os.close(fd)
    return Ended(done.returncode, done.stdout, done.stderr)


def _memory(text: str) -> int:
    fd = os.memfd_create("given")
    os.write(fd, text.encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
