"""One service for both suites, with the toolchains that this machine has, and the image it shows."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandboxd.drivers.graph import host_image
from sandboxd.drivers.graph.image import Image
from tests.compat.inside.outside import ENVIRONMENT
from tests.plain import environment
from tests.service.instance import Service, running

ALL = os.environ.get("COMPAT") == "all"
LIMITS = {
    "cpu_time": 280.0, "memory": 2 << 30, "pids": 256, "disk": 1 << 29, "open_files": 1024,
    "stack": 64 << 20, "output": 16 << 20,
}  # fmt: skip


class Inside:
    """Runs commands in sandboxes of a real service."""

    def __init__(self, service: Service, binds: Mapping[str, str]) -> None:
        self._service, self._binds = service, binds

    def has(self, path: str) -> bool:
        """Whether a path below a shown toolchain is there."""
        return any(
            Path(source, Path(path).relative_to(target)).exists()
            for target, source in self._binds.items()
            if Path(path).is_relative_to(target)
        )

    def run(
        self,
        command: Sequence[str],
        files: Mapping[str, str],
        *,
        seconds: float,
        env: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        request = {
            "template": "default", "command": command, "env": ENVIRONMENT | dict(env or {}),
            "files": {name: {"text": text} for name, text in files.items()},
            "limits": LIMITS | {"wall_time": seconds},
        }  # fmt: skip
        answer = httpx.post(f"{self._service.url}/v1/runs", json=request, timeout=seconds + 60)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found


@pytest.fixture(scope="session")
def binds() -> dict[str, str]:
    """Toolchains that are not below /usr, or not as the image wants them."""
    found = {}
    go = shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin")
    if go:
        found["/opt/go"] = _said([go, "env", "GOROOT"])
    if shutil.which("rustc"):
        found["/opt/rust"] = _said(["rustc", "--print", "sysroot"])
    return found


def _said(command: list[str]) -> str:
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="session")
def inside(binds: dict[str, str]) -> Iterator[Inside]:
    shown = ",".join(f"{target}={source}" for target, source in binds.items())
    settings = [f"host_image.binds={shown}"] if shown else []
    with running(*settings) as service:
        yield Inside(service, binds)


@pytest.fixture(scope="session")
def image(binds: dict[str, str]) -> Iterator[Image]:
    """As the service builds it, and open to the ordinary user who starts the other side."""
    with tempfile.TemporaryDirectory(prefix="compat-") as directory:
        # A toolchain below /root is closed to that user; the service shows it by descriptor.
        usable = {
            target: source for target, source in binds.items() if not source.startswith("/root")
        }
        image = host_image.build(Path(directory) / "images", usable)
        for path in (Path(directory), Path(directory) / "images"):
            path.chmod(0o755)
        yield image
