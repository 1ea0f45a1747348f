"""Debian's docker-registry on a loopback port of its own."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

_HTPASSWD = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"
USER, PASSWORD = "user", "secret"


@contextmanager
def registry(directory: Path, *, password: bool = False) -> Iterator[str]:
    """Its `host:port`. With `password`, it wants USER and PASSWORD."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = [
        "version: 0.1",
        "log: {level: error}",
        f"storage: {{filesystem: {{rootdirectory: {directory}/blobs}}, delete: {{enabled: true}}}}",
        f"http: {{addr: '{address}'}}",
    ]
    if password:
        (directory / "htpasswd").write_text(_HTPASSWD + "\n")
        config.append(f"auth: {{htpasswd: {{realm: test, path: {directory}/htpasswd}}}}")
    (directory / "config.yml").write_text("\n".join(config))
    server = subprocess.Popen(
        ["docker-registry", "serve", directory / "config.yml"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                httpx.get(f"http://{address}/v2/")
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline and server.poll() is None
                time.sleep(0.02)
        yield address
    finally:
        server.terminate()
        server.wait()
