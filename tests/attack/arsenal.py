"""Builds the probe, and the directory that jobs see at /opt/attack."""

import hashlib
import os
import secrets
import shutil
import socket
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).with_name("probe")
KEPT = Path(__file__).parents[2] / "build" / "attack"
BIG = 64 << 20
"""Bytes of a file that is read to fill the page cache."""
_STRICT = ("-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers")


@dataclass(frozen=True)
class Arsenal:
    directory: Path
    """Shown read-only to every sandbox as /opt/attack."""
    outdoors: Path
    """The same for probes outside, where some of it can be written."""
    nonce: str
    """Content of files that only root may read."""
    canary: Path
    """Root's file outside of everything that is shown."""
    port: socket.socket
    abstract: socket.socket

    def close(self) -> None:
        self.port.close()
        self.abstract.close()


def build_probe(directory: Path) -> Path:
    """The static executable, below `directory`. It is kept for who comes next with the same sources:
    an emulated machine takes a quarter of a minute for it."""
    target = directory / "probe"
    sources = sorted([*SOURCES.glob("*.[ch]"), Path(__file__)])
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    kept = KEPT / f"probe-{digest[:32]}"
    if not kept.is_file():
        _compile(target, directory / "uapi")
        KEPT.mkdir(parents=True, exist_ok=True)
        shutil.copy(target, fresh := KEPT / f"fresh-{os.getpid()}")
        fresh.rename(kept)
    shutil.copy(kept, target)
    return target


def _compile(target: Path, headers: Path) -> None:
    headers.mkdir()
    for name in ("linux", "asm-generic"):
        (headers / name).symlink_to(f"/usr/include/{name}")
    multiarch = subprocess.run(
        ["gcc", "-print-multiarch"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (headers / "asm").symlink_to(f"/usr/include/{multiarch}/asm")
    subprocess.run(
        ["musl-gcc", "-static", *_STRICT, "-isystem", headers, *sorted(SOURCES.glob("*.c")),
         "-o", target, "-s"],
        check=True,
    )  # fmt: skip


def make(directory: Path) -> Arsenal:
    """Everything that cases ask for. `directory` must let other users through."""
    executable = build_probe(directory)
    nonce = secrets.token_hex(16)
    canary = directory / "canary"
    _secret(canary, nonce)
    port = socket.create_server(("127.0.0.1", 0), backlog=1000)
    abstract = socket.socket(socket.AF_UNIX)
    name = f"attack-{secrets.token_hex(8)}"
    abstract.bind(f"\0{name}")
    abstract.listen(1000)
    for part in ("shown", "outdoors"):
        (directory / part).mkdir(mode=0o755)
        _furnish(directory / part, executable, nonce)
        (directory / part / "listeners").write_text(f"{port.getsockname()[1]} {name}\n")
    return Arsenal(directory / "shown", directory / "outdoors", nonce, canary, port, abstract)


def _furnish(place: Path, executable: Path, nonce: str) -> None:
    for name in ("probe", "setuid", "filecaps"):
        shutil.copyfile(executable, place / name)
        (place / name).chmod(0o755)
    (place / "setuid").chmod(0o4755)
    # VFS_CAP_REVISION_2 with the effective bit; CAP_CHOWN, which every root has.
    capabilities = struct.pack("<IIIII", 0x0200_0001, 1, 0, 0, 0)
    os.setxattr(place / "filecaps", "security.capability", capabilities)
    shutil.copyfile("/usr/bin/env", place / "env")
    (place / "env").chmod(0o755)
    with (place / "big").open("wb") as big:
        big.truncate(BIG)
    _secret(place / "secret", nonce)


def _secret(path: Path, nonce: str) -> None:
    path.write_text(nonce)
    path.chmod(0o600)
