"""What is left to a hijacked gateway: its connections, Redis, the node's socket.

Landlock takes the file system but for what Python still reads, TCP but for the port of Redis, and
signals to others; seccomp takes programs, processes, new code, new listeners and the rest of the
kernel. Both hold for every thread to come and cannot be undone. The seccomp programs are compiled
elsewhere and passed in: nothing of the host side belongs into this process. The courier gives itself
up by the same means (`give_up`), see `courier/main`.
"""

import ctypes
import logging
import os
import platform
import site
import struct
import sysconfig
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from msgspec import Struct

import sandboxd
from sandboxd.settings import Settings, SettingsError

log = logging.getLogger(__name__)

_SECCOMP = {"x86_64": 317, "aarch64": 277}[platform.machine()]
_CREATE, _ADD, _RESTRICT = 444, 445, 446  # landlock_*, the same everywhere
_SET_MODE_FILTER, _TSYNC = 1, 1
_CREATE_VERSION, _RULE_PATH, _RULE_PORT = 1, 1, 2
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_BIND_TCP, _CONNECT_TCP = 1, 1 << 1
_NO_PORTS: Sequence[int] = ()
_SCOPES = 3  # abstract unix sockets, signals

_SYSTEM = (
    "/dev/null", "/etc/gai.conf", "/etc/host.conf", "/etc/hosts", "/etc/ld.so.cache", "/etc/localtime",
    "/etc/nsswitch.conf", "/etc/resolv.conf", "/etc/services", "/etc/ssl/certs", "/lib", "/lib64",
    "/usr/lib", "/usr/local/lib", "/usr/share/ca-certificates", "/usr/share/zoneinfo",
)  # fmt: skip
"""What the C library and TLS may open late; what is not there is passed over."""


class Filters(Struct, frozen=True, kw_only=True):
    """Seccomp programs (arrays of struct sock_filter), each loaded on top of the ones before."""

    always: bytes
    """From `gateway.json`, before the event loop."""
    local: bytes
    """From `gateway-local.json`, where Redis is a unix socket."""
    serving: bytes
    """From `gateway-serving.json`, once the gateway listens."""


def confine(settings: Settings, filters: Filters) -> None:
    """Give up what serving does not need. Call it while there is one thread, after privileges.

    Raises SettingsError if there are more, or `isolation.require` names a layer that this kernel
    lacks, and OSError if it refuses.
    """
    port = _redis_port(settings)
    programs = [filters.always, filters.local] if port is None else [filters.always]
    give_up(
        "gateway", settings, readable(settings), programs, _NO_PORTS if port is None else [port]
    )


def give_up(
    who: str,
    settings: Settings,
    paths: Iterable[Path],
    programs: Sequence[bytes],
    ports: Sequence[int] | None,
) -> None:
    """Keep reading `paths` and calling TCP `ports` (None: all); then load the seccomp `programs`.

    Raises as `confine`.
    """
    # Opened while /proc can be: the content is made anew at each read.
    with open("/proc/self/status", "rb", buffering=0) as status:
        if _line(status, "Threads") != "1":
            raise SettingsError(f"the {who} cannot be confined: it has threads already")
        if not _restrict(paths, ports):
            if "landlock" in settings.isolation.require:
                raise SettingsError("isolation.require: this kernel has no landlock")
            log.warning("no landlock in this kernel: file rights alone hold the %s", who)
        for program in programs:
            _load(program)
        if _line(status, "Seccomp") != "2":
            raise SettingsError(f"the {who} cannot be confined: no seccomp filter holds")


def end_listening(filters: Filters) -> None:
    """From now on no socket can begin to listen. Any thread may call it. Raises OSError."""
    _load(filters.serving)


def _line(status: BinaryIO, name: str) -> str:
    status.seek(0)
    lines = status.read().decode().splitlines()
    return next(line for line in lines if line.startswith(f"{name}:")).partition("\t")[2]


def readable(settings: Settings) -> list[Path]:
    """Files and directories that stay readable, as far as the gateway's user may read them."""
    found = installed()
    if settings.gateway.keys_file:
        # Its directory: editors and secret mounts replace the file instead of writing to it.
        found.append(Path(settings.gateway.keys_file).resolve().parent)
    if settings.network.enabled:
        found.append(settings.policy_path)  # above the one that is read, for the same reason
    return found


def installed() -> list[Path]:
    """What any of our processes in Python, with TLS and names, may open late."""
    found = [Path(name) for name in _SYSTEM]
    found += [
        Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")
    ]
    found += map(Path, site.getsitepackages())
    found.append(Path(sandboxd.__file__).parent)
    return found


def _redis_port(settings: Settings) -> int | None:
    url = urlsplit(settings.redis_url)
    return None if url.scheme == "unix" else url.port or 6379


def _restrict(paths: Iterable[Path], ports: Sequence[int] | None) -> bool:
    """Whether this kernel has Landlock."""
    try:
        abi = _syscall(_CREATE, None, 0, _CREATE_VERSION)
    except OSError:
        return False
    files = (1 << 13) - 1  # ABI 1; then REFER, TRUNCATE and IOCTL_DEV
    for bit, since in ((13, 2), (14, 3), (15, 5)):
        files |= (abi >= since) << bit
    calls = _BIND_TCP if ports is None else _BIND_TCP | _CONNECT_TCP
    attributes = struct.pack("<QQQ", files, calls if abi >= 4 else 0, _SCOPES if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    rules = _syscall(_CREATE, attributes[:size], size, 0)
    try:
        _allow_reading(rules, paths)
        for port in ports or () if abi >= 4 else ():
            _syscall(_ADD, rules, _RULE_PORT, struct.pack("<QQ", _CONNECT_TCP, port), 0)
        _syscall(_RESTRICT, rules, 0)
    finally:
        os.close(rules)
    return True


def _allow_reading(rules: int, paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(FileNotFoundError, PermissionError):
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                access = _READ_FILE | (_READ_DIR if path.is_dir() else 0)
                _syscall(_ADD, rules, _RULE_PATH, struct.pack("<Qi", access, place), 0)
            finally:
                os.close(place)


def _load(program: bytes) -> None:
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    _syscall(_SECCOMP, _SET_MODE_FILTER, _TSYNC, header)


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result: int = libc.syscall(ctypes.c_long(number), *words)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if result > 0 and number == _SECCOMP:
        raise SettingsError(f"this process cannot be confined: thread {result} resists")
    return result
