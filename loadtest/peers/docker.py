"""Docker: `run --rm` of an image that is imported for the run, and removed after it."""

import subprocess
from contextlib import ExitStack

from loadtest.peers import root
from loadtest.peers.command import CommandPeer, DaemonPeer, first_line, installed
from loadtest.peers.peer import NotHereError
from loadtest.peers.podman import RUN
from loadtest.workload import PYTHON, Programs


def peers(programs: Programs, cleanup: ExitStack) -> list[CommandPeer]:
    """Raises NotHereError, also where no daemon answers."""
    docker = installed("docker")
    version = first_line("docker", docker, "version", "--format", "docker {{.Server.Version}}")
    image = _import(programs, docker)
    cleanup.callback(
        subprocess.run, [docker, "image", "rm", "--force", image], capture_output=True, timeout=60
    )
    run = [docker, *RUN, image]
    commands = {
        "compiled": [*run, "/hello"],
        "python": [*run, *PYTHON, "print(1)"],
    }
    about = f"{version}: `docker {' '.join(RUN)}`; its own seccomp policy"
    return [DaemonPeer("docker", about, programs.spawn, commands)]


def _import(programs: Programs, docker: str) -> str:
    """The new image's id."""
    rootfs = root.make(programs, "docker")
    tar = subprocess.run(["tar", "-C", rootfs, "-c", "."], capture_output=True, check=True)
    done = subprocess.run(
        [docker, "import", "-"], input=tar.stdout, capture_output=True, timeout=60
    )
    if done.returncode:
        raise NotHereError(f"docker: {done.stderr.decode('utf-8', 'replace').strip()[-300:]}")
    return done.stdout.decode().strip()
