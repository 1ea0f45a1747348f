"""A service as an operator would run it for clients of others, and what those clients made of it."""

import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.patience import PATIENCE
from tests.service.instance import ROOT, running

PYTHON = ROOT / ".setup/compat/bin/python"
OLDEST = ROOT / ".setup/compat-oldest/bin/python"
JAVASCRIPT = ROOT / ".setup/compat-javascript"
HERE = Path(__file__).parent
KEY = "e2b_0123456789abcdef"
IMAGE = "compat-image"
_APPLETS = ("sh", "cat", "echo", "grep", "mkdir", "chown", "id", "env", "sleep")
_BASH = b'#!/bin/busybox sh\nexec /bin/busybox sh "$@"\n'


@pytest.fixture(scope="session")
def served() -> Iterator[tuple[str, str]]:
    """The service's main address, and the adapter's own."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    directory = Path(tempfile.mkdtemp(prefix="sandboxd-compat-"))
    keys = directory / "keys"
    keys.write_text(f"ann:{hashlib.sha256(KEY.encode()).hexdigest()}\n")
    directory.chmod(0o755)
    keys.chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    try:
        listen = f"adapters.e2b_listen=127.0.0.1:{port}"
        names = ("gateway.ports_url=https://boxes.test", "adapters.e2b_host=api.boxes.test")
        with running(f"gateway.keys_file={keys}", listen, *names) as service:
            done = httpx.post(
                f"{service.url}/v1/images/import", params={"name": IMAGE}, content=_rootfs(),
                headers={"Authorization": f"Bearer {KEY}"}, timeout=60 * PATIENCE,
            )  # fmt: skip
            assert '"done"' in done.text, done.text
            yield service.url, f"http://127.0.0.1:{port}"
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def named(served: tuple[str, str]) -> tuple[str, str]:
    """Where names lead to, and a key."""
    return served[0], KEY


@pytest.fixture(scope="session")
def environment(served: tuple[str, str]) -> dict[str, str]:
    """The three variables that a user sets, and the name of an image to build on."""
    if not (PYTHON.exists() and OLDEST.exists()):
        pytest.skip("make compat installs the clients")
    url = served[1]
    return {
        "E2B_API_KEY": KEY, "E2B_API_URL": url, "E2B_SANDBOX_URL": url,
        "COMPAT_IMAGE": IMAGE, "PATH": os.environ["PATH"],
    }  # fmt: skip


@pytest.fixture(scope="session")
def run(environment: dict[str, str]) -> Callable[[str], dict[str, Any]]:
    """Runs a script once; what it wrote down, with what it said."""
    done: dict[str, dict[str, Any]] = {}

    def once(script: str) -> dict[str, Any]:
        if script not in done:
            with tempfile.NamedTemporaryFile() as file:
                ended = subprocess.run(
                    _command(script), env={**environment, "COMPAT_TABLE": file.name},
                    capture_output=True, text=True, timeout=100 * PATIENCE, check=False,
                )  # fmt: skip
                text = Path(file.name).read_text()
            assert text, ended.stderr[-4000:]
            done[script] = json.loads(text) | {"stderr": ended.stderr}
        return done[script]

    return once


def _command(script: str) -> list[str | Path]:
    if script.endswith(".mjs"):  # modules are looked for beside the script
        return ["node", JAVASCRIPT / script]
    return [OLDEST if "oldest" in script else PYTHON, HERE / script]


def _rootfs() -> bytes:
    """The least in which clients' shell commands run."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("bin", "etc", "tmp", "home"):
            archive.addfile(_member(name, tarfile.DIRTYPE))
        for name, data, mode in (
            ("bin/busybox", Path(busybox).read_bytes(), 0o755),
            ("bin/bash", _BASH, 0o755),
            ("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", 0o644),
        ):
            member = _member(name, tarfile.REGTYPE, mode)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name in _APPLETS:
            member = _member(f"bin/{name}", tarfile.SYMTYPE)
            member.linkname = "busybox"
            archive.addfile(member)
    return out.getvalue()


def _member(name: str, kind: bytes, mode: int = 0o755) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode = kind, mode
    return member
