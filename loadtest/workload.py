"""The two hellos that every peer runs, and the programs built for them."""

import base64
import shutil
import subprocess
from pathlib import Path
from typing import Any

from msgspec import Struct

_SOURCES = Path(__file__).parent / "programs"
DEBIAN_PYTHON = "/usr/bin/python3"
"""By its path: `python3` in PATH may be a shell script that picks an interpreter."""
PYTHON = [DEBIAN_PYTHON, "-I", "-S", "-c"]
"""As fast as it starts; a program follows."""
SLEEP = "import time; time.sleep(2)"


class BuildError(Exception):
    """A program of the bench could not be compiled; the text has the compiler's words."""


class Programs(Struct, frozen=True, kw_only=True):
    """What was built, and where."""

    hello: Path
    """Static executable that prints `hello`."""
    hello_py: Path
    """`print(1)` in a file."""
    spawn: Path
    """The driver of peers that are commands."""
    compiler: str
    """Command that built `hello`, without paths."""


class Workload(Struct, frozen=True, kw_only=True):
    name: str
    title: str
    stdout: str
    """What every single job must print."""
    request: dict[str, Any]
    """Body of `POST /v1/runs`."""


ASLEEP = Workload(name="asleep", title="Python that sleeps", stdout="", request={})
"""For what a sandbox holds in memory meanwhile; it is not timed."""


def build(directory: Path) -> Programs:
    """Compiles into `directory`. Raises BuildError."""
    hello, spawn, script = directory / "hello", directory / "spawn", directory / "hello.py"
    script.write_text("print(1)\n")
    compiler = "musl-gcc" if shutil.which("musl-gcc") else "cc"
    flags = ["-static", "-O2", "-s"]
    _compile([compiler, *flags, "-o", str(hello), str(_SOURCES / "hello.c")])
    _compile(["cc", "-O2", "-pthread", "-o", str(spawn), str(_SOURCES / "spawn.c")])
    directory.chmod(0o755)  # a peer may start the programs under another uid
    return Programs(
        hello=hello,
        hello_py=script,
        spawn=spawn,
        compiler=" ".join([compiler, *flags, "hello.c"]),
    )


def workloads(programs: Programs) -> dict[str, Workload]:
    binary = base64.b64encode(programs.hello.read_bytes()).decode()
    return {
        "compiled": Workload(
            name="compiled",
            title="Compiled hello (static C, sent with every request)",
            stdout="hello\n",
            request={
                "template": "default",
                "command": ["./hello"],
                "files": {"hello": {"base64": binary}},
            },
        ),
        "python": Workload(
            name="python",
            title="Python hello (`print(1)`)",
            stdout="1\n",
            request={"language": "python", "source": "print(1)"},
        ),
    }


def _compile(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(str(error)) from error
    if done.returncode:
        raise BuildError(done.stderr.strip())
