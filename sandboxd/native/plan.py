"""What crosses the border into a sandbox, as bytes: the plan it is built from, the order it runs.

The layout is that of `proto.h`: a packed head, then fields of a u32 length and that many bytes.
"""

import struct
from collections.abc import Mapping, Sequence

from msgspec import Struct

_LENGTH = struct.Struct("<I")
_PLAN = struct.Struct("<BBHIIIIIQIIIIII")
assert _PLAN.size == 56

_LANDLOCK, _LOOPBACK, _IDMAP, _BUILD, _SESSION, _ZYGOTE, _ROOT = 1, 2, 4, 8, 16, 32, 64


class Bind(Struct, frozen=True):
    """A host directory that the image shows read-only."""

    source: str
    target: str
    """Absolute, inside."""


class Plan(Struct, frozen=True, kw_only=True):
    hostname: str
    stage_dir: str
    """Empty host directory that the scratch file system covers while it is built."""
    lower: str
    """Image directory under the overlay: its topmost layer."""
    below: Sequence[str] = ()
    """The other layers, from the top down."""
    idmap: bool = False
    """A user namespace comes along, by which the owners of the layers' files are mapped."""
    binds: Sequence[Bind]
    masks: Sequence[str]
    """Paths to cover, relative to the root."""
    mounts: Sequence[str] = ()
    """Where the detached mounts go that come along, absolute."""
    build: bool = False
    """An image is made: the job has every id below `init_uid`, and may write everywhere."""
    session: bool = False
    """It lives on for more processes: has terminals, and may write everywhere."""
    root: bool = False
    """Of a session: it may have processes of root. The job has every id below `init_uid`."""
    zygote: bool = False
    """No sandbox: an interpreter, with every right, that sandboxes are forked from."""
    seccomp: bytes
    """Program: array of struct sock_filter."""
    apparmor: str = ""
    landlock: bool = True
    loopback: bool = True
    disk: int
    """Bytes of the scratch file system."""
    inodes: int
    job_uid: int = 1000
    """Inside, as is init_uid; gids are the same numbers."""
    init_uid: int = 999
    host_job_uid: int
    host_init_uid: int
    fault_stage: int = 0
    """Honoured by the test build of sandbox-init only, as is skip_layers."""
    skip_layers: int = 0

    def encode(self, abi: int, cgroups: int) -> bytes:
        """The plan for `cgroups` v1 hierarchies. Raises ValueError for a string with a NUL."""
        head = _PLAN.pack(
            abi,
            len(self.mounts),
            1 + len(self.below),
            (_LANDLOCK if self.landlock else 0)
            | (_LOOPBACK if self.loopback else 0)
            | (_IDMAP if self.idmap else 0)
            | (_BUILD if self.build else 0)
            | (_SESSION if self.session else 0)
            | (_ZYGOTE if self.zygote else 0)
            | (_ROOT if self.root else 0),
            cgroups,
            len(self.binds),
            len(self.masks),
            self.inodes,
            self.disk,
            self.job_uid,
            self.init_uid,
            self.host_job_uid,
            self.host_init_uid,
            self.fault_stage,
            self.skip_layers,
        )
        fields = [
            _string(self.hostname),
            _string(self.stage_dir),
            _string(self.lower),
            *map(_string, self.below),
            _field(self.seccomp),
            _string(self.apparmor),
        ]
        for bind in self.binds:
            fields += (_string(bind.source), _string(bind.target))
        fields += map(_string, self.masks)
        fields += map(_string, self.mounts)
        return head + b"".join(fields)


class ExecOrder(Struct, frozen=True, kw_only=True):
    """One program to run, once, in a built sandbox."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str = "/work"
    files: Sequence[tuple[str, int, bytes]] = ()
    """Path below /work, mode, content."""
    open_files: int
    stack: int
    """Bytes, as is file_size."""
    file_size: int
    warm: bool = False
    """The program is an interpreter that keeps the exec socket (as descriptor 3), says on it that it
    is ready, and waits there for the order that is the run."""
    terminal: tuple[int, int] | None = None
    """Rows and columns of a terminal in place of the three streams; the host gets Terminal."""

    def body(self) -> bytes:
        """The fields after the head. Raises ValueError for a string with a NUL."""
        fields = [_string(self.cwd)]
        fields += map(_string, self.argv)
        fields += (_string(f"{name}={value}") for name, value in self.env.items())
        for path, mode, content in self.files:
            fields += (_string(path), _field(_LENGTH.pack(mode)), _field(content))
        return b"".join(fields)


def _field(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _string(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise ValueError("a string holds a NUL")
    return _field(data + b"\0")
