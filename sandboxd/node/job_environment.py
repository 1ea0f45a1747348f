"""What every job finds, whatever it asked for."""

from collections.abc import Mapping, Sequence

from sandboxd.drivers.graph.image import Image
from sandboxd.model import Limits
from sandboxd.native import ExecOrder

BASE_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/work",
    "LANG": "C.UTF-8",
    "TMPDIR": "/tmp",  # noqa: S108  (the sandbox's own)
    "USER": "sandbox",
}

_PAGE = 4_096


def base_env(image: Image) -> dict[str, str]:
    """What a job finds unless its language or its request says otherwise."""
    return {**BASE_ENV, **dict(image.env)}


def file_size(limits: Limits) -> int:
    """RLIMIT_FSIZE, bytes: a page above the disk, so that a full disk is ENOSPC, which a program can
    handle, and only a hole beyond the disk's size is the signal SIGXFSZ."""
    return limits.disk + _PAGE


def order(
    argv: Sequence[str],
    env: Mapping[str, str],
    files: Sequence[tuple[str, int, bytes]],
    limits: Limits,
    *,
    cwd: str = "/work",
    warm: bool = False,
) -> ExecOrder:
    """The order for one program: `env` whole, the rlimits of `limits`."""
    return ExecOrder(
        argv=argv,
        env=env,
        cwd=cwd,
        files=files,
        open_files=limits.open_files,
        stack=limits.stack,
        file_size=file_size(limits),
        warm=warm,
    )
