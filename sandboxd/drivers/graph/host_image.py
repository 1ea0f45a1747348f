"""The `host` image: a small root file system around the host's own /usr.

The host's /usr (and directories that the operator names) is mounted read-only; the rest is a skeleton
that this module writes: empty mount points, the links of a merged-/usr root, and an /etc of a few
public files. Nothing of /root, /home, /var or the host's secrets is in it.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sandboxd.drivers.graph.image import Image as Image
from sandboxd.drivers.graph.overlay import mappable
from sandboxd.errors import DriverFault
from sandboxd.native import Bind

_DIRECTORIES = ("dev", "etc", "opt", "proc", "tmp", "usr", "var/tmp", "work")
_ETC_FILES = (
    "debian_version",
    "ld.so.cache",
    "ld.so.conf",
    "localtime",
    "matplotlibrc",  # Debian's package does not start without it
    "mime.types",
    "os-release",
    "protocols",
    "services",
    "timezone",
)
_ETC_TREES = ("alternatives", "ld.so.conf.d", "ssl/certs", "java-*", "R", "fonts")
_ETC_WRITTEN = {
    # No line is the host's own, so that a test can tell whose was read.
    "passwd": "root:x:0:0:root of the sandbox:/root:/bin/bash\n"
    "user:x:1000:1000:user:/home/user:/bin/bash\n"
    "sandbox:x:1000:1000:sandbox:/work:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nuser:x:1000:\nsandbox:x:1000:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n",
    "hostname": "sandbox\n",
}
_SUDO = "opt/sandboxd/bin/sudo"
"""For programs that say sudo out of habit; who wants it has its directory in PATH."""
_FORBIDDEN_BELOW = ("/proc", "/sys", "/dev")
_FORBIDDEN = ("/", "/root", "/home", "/etc", "/var", "/proc", "/sys", "/dev", "/run", "/boot")


def build(directory: Path, binds: Mapping[str, str], *, owner: int | None = None) -> Image:
    """Write the skeleton below `directory` (of this node alone).

    `binds` maps paths inside (under /opt) to host directories. The skeleton belongs to the uid `owner`,
    which sandboxes with a root see as that, if the file system can show it so. Raises DriverFault.
    """
    every = [Bind("/usr", "/usr")]
    for target, source in binds.items():
        every.append(Bind(_checked_source(source), _checked_target(target)))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lower = Path(tempfile.mkdtemp(prefix="host-", dir=directory))
        lower.chmod(0o755)
        _write_skeleton(lower)
        owned = owner is not None and mappable(lower, owner)
        if owner is not None and owned:
            _give(lower, owner)
    except OSError as error:
        raise DriverFault("graph", "build the host image", str(error)) from error
    root_base = owner if owned else None
    return Image(name="host", lower=lower, binds=tuple(every), root_base=root_base)


def clear(directory: Path) -> None:
    """Drop the skeletons of earlier starts; no sandbox may be on one. Raises DriverFault."""
    try:
        for old in directory.glob("host-*"):
            shutil.rmtree(old)
    except OSError as error:
        raise DriverFault("graph", "clear the host images", str(error)) from error


def _write_skeleton(root: Path) -> None:
    for name in _DIRECTORIES:
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        link = Path("/") / name
        if link.is_symlink() and str(link.readlink()).lstrip("/").startswith("usr/"):
            (root / name).symlink_to(link.readlink())
    for name, text in _ETC_WRITTEN.items():
        (root / "etc" / name).write_text(text)
    (root / _SUDO).parent.mkdir(parents=True)
    shutil.copyfile(Path(__file__).with_name("sudo.sh"), root / _SUDO)
    (root / _SUDO).chmod(0o755)
    for name in _ETC_FILES:
        _copy_public(Path("/etc") / name, root / "etc" / name)
    for pattern in _ETC_TREES:
        for tree in Path("/etc").glob(pattern):
            _copy_tree(tree, root / "etc" / tree.relative_to("/etc"))


def _give(root: Path, owner: int) -> None:
    os.chown(root, owner, owner)
    for path in root.rglob("*"):
        os.chown(path, owner, owner, follow_symlinks=False)


def _copy_tree(source: Path, target: Path) -> None:
    if not source.stat().st_mode & stat.S_IXOTH:
        return  # what is in it is not public, whatever its own mode says
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_dir() and not path.is_symlink():
            _copy_tree(path, target / path.name)
        else:
            _copy_public(path, target / path.name)


def _copy_public(source: Path, target: Path) -> None:
    """Copy a link or a file that every user of the host may read; pass over anything else."""
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_file() and source.stat().st_mode & stat.S_IROTH:
        shutil.copyfile(source, target)
        target.chmod(0o644)


def _checked_source(source: str) -> str:
    real = Path(source).resolve()
    if (
        not real.is_dir()
        or str(real) in _FORBIDDEN
        or any(real.is_relative_to(top) for top in _FORBIDDEN_BELOW)
    ):
        raise DriverFault("graph", "host_image.binds", f"{source} cannot be shown to sandboxes")
    return str(real)


def _checked_target(target: str) -> str:
    parts = Path(target).parts
    if parts[:2] != ("/", "opt") or len(parts) < 3 or ".." in parts or "\0" in target:
        raise DriverFault("graph", "host_image.binds", f"{target} is not a path under /opt")
    return str(Path(target))
