"""Honest programs, each one command over a few files; every one prints the same wherever it runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

PROGRAMS = Path(__file__).parent / "programs"
GO = "/opt/go/bin:/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin"


class Honest(Struct, frozen=True, kw_only=True):
    file: str
    """Of `programs/`; the program finds it in its working directory."""
    shell: str
    """What to run, as a line of bash: the job's own shell, in its own sandbox."""
    needs: str = "/bin/sh"
    """Path in the image without which the host cannot run it."""
    env: Mapping[str, str] = {}
    said: str | None = None
    """What it prints, where an ordinary user of the host could not run it to compare."""
    quick: bool = True
    """Also outside `make compat-inside`."""

    @property
    def command(self) -> Sequence[str]:
        return ["/bin/bash", "-c", self.shell]

    @property
    def files(self) -> Mapping[str, str]:
        return {self.file: (PROGRAMS / self.file).read_text()}


HONEST = {
    "c": Honest(
        file="machine.c",
        shell="gcc -O1 -Wall -pthread machine.c -o machine -lrt && ./machine",
        needs="/usr/bin/gcc",
    ),
    "numpy and pandas": Honest(
        file="data.py",
        shell="python3 data.py",
        needs="/usr/lib/python3/dist-packages/pandas",
        env={"OPENBLAS_NUM_THREADS": "4"},
    ),
    "multiprocessing": Honest(file="parallel.py", shell="python3 parallel.py"),
    "loopback": Honest(file="web.py", shell="python3 web.py"),
    "debuggers": Honest(file="debug.py", shell="python3 debug.py"),
    "shell tools": Honest(file="tools.sh", shell="bash tools.sh 2>&1", needs="/usr/bin/git"),
    "node": Honest(file="server.js", shell="node server.js", needs="/usr/bin/node"),
    "java": Honest(
        file="Server.java",
        shell="java -XX:+UseSerialGC -Xmx256m Server.java",
        needs="/usr/bin/java",
        quick=False,
    ),
    "go": Honest(
        file="server.go",
        shell="go build -o server server.go && ./server",
        needs="/opt/go/bin/go",
        env={
            "PATH": GO, "GOCACHE": "/tmp/go-build", "GOPATH": "/tmp/go", "GO111MODULE": "off",
            "GOFLAGS": "-p=2", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0",
        },
        quick=False,
    ),
    "rust": Honest(
        file="server.rs",
        shell="/opt/rust/bin/rustc -O -o server server.rs && ./server",
        needs="/opt/rust/bin/rustc",
        said="hello\n28\n1\n[99, 104, 105, 108, 100, 10]\nx true\n",
    ),
}  # fmt: skip
