"""A run: what a client asks for and what it gets back."""

import base64
import binascii
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from sandboxd.model.callback import Callback
from sandboxd.model.egress import NetworkRequest
from sandboxd.model.image import ImageName
from sandboxd.model.judgement import Judgement
from sandboxd.model.limits import LimitOverrides
from sandboxd.model.mounts import DataMount, VolumeMount
from sandboxd.model.names import Name as Name
from sandboxd.model.network_use import NetworkUse
from sandboxd.model.status import Status

Arg = Annotated[str, Meta(max_length=131_071)]
SandboxPath = Annotated[str, Meta(min_length=1, max_length=1024)]
"""Path relative to /work: no leading slash, no empty, `.` or `..` part, no NUL."""


class FileContent(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A file's content: exactly one of `text` (UTF-8) and `base64`."""

    text: str | None = None
    base64: str | None = None

    def data(self) -> bytes:
        """The bytes. Raises ValueError unless exactly one form is given and it decodes."""
        if (self.text is None) == (self.base64 is None):
            raise ValueError("give exactly one of text and base64")
        if self.text is not None:
            return self.text.encode()
        try:
            return base64.b64decode(self.base64 or "", validate=True)
        except binascii.Error as error:
            raise ValueError(f"not base64: {error}") from None

    @classmethod
    def of(cls, data: bytes) -> "FileContent":
        try:
            return cls(text=data.decode())
        except UnicodeDecodeError:
            return cls(base64=base64.b64encode(data).decode())


class RunRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Body of `POST /v1/runs`: `language` + `source` (or `files`), or `template` + `command`."""

    language: Name | None = None
    source: str | None = None
    """Text of the main file; without it, `files` must hold the language's source name."""
    compile_args: Annotated[list[Arg], Meta(max_length=64)] = []
    """Appended to the compiler's command; refused for languages that do not compile."""
    template: Name | None = None
    command: Annotated[list[Arg], Meta(min_length=1, max_length=256)] | None = None
    """argv, run in /work; the first word is looked up in PATH."""
    args: Annotated[list[Arg], Meta(max_length=256)] = []
    """Appended to the program's command."""
    stdin: str | FileContent = ""
    env: Annotated[dict[str, Arg], Meta(max_length=256)] = {}
    files: Annotated[dict[SandboxPath, FileContent], Meta(max_length=1000)] = {}
    collect: Annotated[list[SandboxPath], Meta(max_length=100)] = []
    """Files to bring back when the program has ended."""
    image: ImageName | None = None
    """Run `command` in this image instead of the template's; see `GET /v1/images`."""
    volumes: Annotated[list[VolumeMount], Meta(max_length=8)] = []
    """Not for a language's compiler; its program has them."""
    data: Annotated[list[DataMount], Meta(max_length=4)] = []
    """Files of images of one layer, read-only."""
    limits: LimitOverrides = LimitOverrides()
    compile_limits: LimitOverrides = LimitOverrides()
    network: Name | NetworkRequest = "none"
    """`none`; or an egress policy by name, which says what the program may reach; or a part of one."""
    interactive: bool = False
    """stdin comes from the run's stream instead of `stdin`; see `WS /v1/runs/{id}/stream`."""
    retry: Literal["never", "safe"] = "never"
    """`safe`: the run may be started again if its node is lost while it runs."""
    callback: Callback | None = None
    """Tell its result there too."""


class Outcome(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One program's end: the run's own, or its compiler's."""

    status: Status
    exit_code: int | None
    signal: str | None
    """Name such as `SIGSEGV`, or None."""
    stdout: str
    stderr: str
    stdout_truncated: bool
    stderr_truncated: bool
    encoding: Literal["utf-8", "base64"]
    """Of stdout and stderr both: base64 if either is not UTF-8."""
    cpu_time: float
    wall_time: float
    peak_memory: int


class PartOutcome(Outcome, frozen=True, kw_only=True, omit_defaults=False):
    """The end of one of a job's parts, see `model/parts`."""

    files: dict[str, FileContent] = {}
    file_errors: dict[str, Literal["not_found", "not_regular", "too_large", "denied"]] = {}
    reason: str | None = None


class Result(Struct, frozen=True, kw_only=True):
    """Answer of a finished run."""

    id: str
    status: Status
    exit_code: int | None = None
    signal: str | None = None
    stdout: str = ""
    stderr: str = ""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    encoding: Literal["utf-8", "base64"] = "utf-8"
    cpu_time: float = 0.0
    wall_time: float = 0.0
    peak_memory: int = 0
    files: dict[str, FileContent] = {}
    file_errors: dict[str, Literal["not_found", "not_regular", "too_large", "denied"]] = {}
    """Why a file named in `collect` is not in `files`."""
    compile: Outcome | None = None
    judgement: Judgement | UnsetType = UNSET
    """Of a submission's job; `status` is then `ok`."""
    parts: list[PartOutcome] | UnsetType = UNSET
    """Of a job of several commands; `status` is then `ok`."""
    network: NetworkUse | UnsetType = UNSET
    """Of a run with a network: what it asked of it, and what became of that."""
    isolation: list[str] = []
    """The layers that held, e.g. `userns`, `seccomp`, `landlock`."""
    language: str | None = None
    node: str | None = None
    reason: str | None = None
    """Why, where the status alone does not say: `node_lost`, or the stage that failed."""
    created_at: str = ""
    """RFC 3339, as are the times below."""
    started_at: str | None = None
    finished_at: str | None = None


class RunState(StrEnum):
    QUEUED = "queued"
    LEASED = "leased"
    STARTED = "started"
    FINISHED = "finished"


class RunRecord(Struct, frozen=True, kw_only=True):
    """Answer of `GET /v1/runs/{id}` and of an asynchronous POST."""

    id: str
    state: RunState
    created_at: str
    node: str | None = None
    attempt: int = 0
    result: Result | None = None
