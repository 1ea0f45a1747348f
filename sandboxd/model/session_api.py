"""Bodies of `/v1/sandboxes…` that are not the protocol's own: see `model/session.py` for the rest.

Paths are text, relative to /work or absolute; a name that is not UTF-8 is given as `path_base64`.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from sandboxd.model.run import FileContent
from sandboxd.model.session import (
    Lifetime,
    NetworkChoice,
    Process,
    ProcessRequest,
    Sandbox,
    SessionLimits,
    Text,
)

PathText = Annotated[str, Meta(min_length=1, max_length=4095)]
PathBase64 = Annotated[str, Meta(min_length=2, max_length=5460)]


class CommandRequest(ProcessRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command to run in an open sandbox, with what it reads."""

    input: str | FileContent = ""
    """All of its stdin; for those who send it while it runs, `stdin`."""


class CommandResult(Struct, frozen=True, kw_only=True):
    """Answer of a command that was run to its end."""

    process: Process
    stdout: str
    """The newest output, at most `keep_output` bytes."""
    stderr: str
    stdout_truncated: bool = False
    """Earlier output was dropped."""
    stderr_truncated: bool = False
    encoding: Literal["utf-8", "base64"] = "utf-8"
    """Of stdout and stderr: base64 where one of them is not UTF-8."""


class SandboxUpdate(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Body of `PATCH /v1/sandboxes/{id}`; what is not given stays as it is."""

    limits: SessionLimits | None = None
    metadata: (
        Annotated[dict[Annotated[str, Meta(max_length=128)], Text], Meta(max_length=64)] | None
    ) = None
    idle_timeout: Annotated[float, Meta(ge=0, le=30 * 86_400)] | None = None
    """0 takes it away."""
    on_timeout: Literal["kill", "pause"] | None = None
    network: NetworkChoice | None = None


class ExtendRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    timeout: Lifetime | None = None
    """A new time to live from now; None: the one it has."""


class SnapshotRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=255)] | None = None


class ForkRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    count: Annotated[int, Meta(ge=1, le=64)] = 1


class SandboxList(Struct, frozen=True, kw_only=True):
    sandboxes: list[Sandbox]
    next_cursor: str | None = None
    """Give it back as `cursor` for the ones after these. A page may be short and have a next one."""


class SignalRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    signal: Annotated[int, Meta(ge=1, le=64)] | Annotated[str, Meta(max_length=16)]
    """Number, or name such as `SIGTERM`."""


class InputRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    data: str | FileContent = ""
    eof: bool = False
    """No more comes after it."""


class DirectoryRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: PathText | None = None
    path_base64: PathBase64 | None = None
    mode: Annotated[int, Meta(ge=0, le=0o1777)] = 0o755


class MoveRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: PathText | None = None
    source_base64: PathBase64 | None = None
    target: PathText | None = None
    target_base64: PathBase64 | None = None
    overwrite: bool = True


class ModeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: PathText | None = None
    path_base64: PathBase64 | None = None
    mode: Annotated[int, Meta(ge=0, le=0o1777)]


class BatchFile(FileContent, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: PathText
    mode: Annotated[int, Meta(ge=0, le=0o777)] = 0o644


class BatchRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Many small files in one request; each is atomic by itself, they are written in this order."""

    files: Annotated[list[BatchFile], Meta(max_length=10_000)]


class SignRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For a URL that reads or writes one file without a key."""

    path: PathText
    method: Literal["GET", "PUT"] = "GET"
    expires_in: Annotated[float, Meta(gt=0, le=7 * 86_400)] = 3600.0
    """Seconds."""


class SignedUrl(Struct, frozen=True, kw_only=True):
    url: str
    """Path and query, below the origin that served this answer."""
    method: str
    expires_at: str


class LinkRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For a link that opens a port to those who have no key."""

    expires_in: Annotated[float, Meta(gt=0, le=30 * 86_400)] = 3600.0
    """Seconds. It is worth nothing once its sandbox has ended."""


class PortLink(Struct, frozen=True, kw_only=True):
    url: str
    """Absolute if the service has `gateway.ports_url`; else a path of the origin that served this."""
    token: str
    """What is secret in it; also good as the header `X-Sandboxd-Token` at the port's host name."""
    expires_at: str
