"""Debian's cloud kernel, unpacked into a cache beside the project and never installed on the host.

The package is downloaded by apt and unpacked by dpkg-deb: no hooks run, so the host's boot loader
and initramfs are untouched. Whatever is cached is used; deleting the cache fetches the newest.
"""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.vm.fault import LaneFault

META_PACKAGE = "linux-image-cloud-amd64"


@dataclass(frozen=True, slots=True)
class Kernel:
    """One unpacked kernel: `modules` is the directory that holds kernel/ and modules.dep."""

    release: str
    image: Path
    modules: Path


def cache_directory() -> Path:
    """Where downloads live: $VM_LANE_CACHE, else sandboxd-vm in the user's cache directory."""
    explicit = os.environ.get("VM_LANE_CACHE")
    if explicit:
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sandboxd-vm"


def obtain(cache: Path) -> Kernel:
    """The cached kernel, fetched first if there is none.

    Raises:
        LaneFault: apt knows no such package, even with fresh lists, or cannot fetch it.
    """
    cached = sorted(cache.glob("kernel-*"), key=lambda path: path.stat().st_mtime)
    return _describe(cached[-1] if cached else _fetch(cache))


def _describe(directory: Path) -> Kernel:
    (image,) = (directory / "boot").glob("vmlinuz-*")
    release = image.name.removeprefix("vmlinuz-")
    return Kernel(release, image, directory / "lib/modules" / release)


def _fetch(cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="fetch-", dir=cache))
    try:
        try:
            archive = _download(scratch)
        except LaneFault:
            # The host's package lists may be absent, or older than the archive.
            _run(["apt-get", "update", "-qq"])
            archive = _download(scratch)
        tree = scratch / "tree"
        _run(["dpkg-deb", "-x", str(archive), str(tree)])
        (modules,) = (tree / "lib/modules").iterdir()
        _run(["busybox", "depmod", "-b", str(tree), modules.name])
        target = cache / f"kernel-{archive.stem}"
        if not target.exists():
            tree.rename(target)
        return target
    finally:
        shutil.rmtree(scratch)


def _download(directory: Path) -> Path:
    depends = _run(["apt-cache", "depends", META_PACKAGE])
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if found is None:
        raise LaneFault(f"{META_PACKAGE} is not in the package lists")
    _run(["apt-get", "download", "-q", found[1]], cwd=directory)
    (archive,) = directory.glob("*.deb")
    return archive


def _run(argv: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LaneFault(f"{argv[0]} failed: {done.stderr.strip()}")
    return done.stdout
