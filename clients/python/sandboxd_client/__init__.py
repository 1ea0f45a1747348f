"""Client of sandboxd: untrusted code in, exact verdict out. Sync (`Client`) and async."""

from sandboxd_client._version import __version__
from sandboxd_client.async_client import AsyncClient, AsyncRun
from sandboxd_client.async_stream import AsyncStream
from sandboxd_client.collected import save_files
from sandboxd_client.errors import (
    ConnectionFailed,
    Overload,
    RequestError,
    SandboxdError,
    ServerError,
    Timeout,
)
from sandboxd_client.judging import CaseResult, Judgement, JudgeOptions
from sandboxd_client.model import (
    Event,
    Health,
    Language,
    Limits,
    Outcome,
    Output,
    Result,
    RunRecord,
    Status,
)
from sandboxd_client.request import RunOptions
from sandboxd_client.sync_client import Client, Run
from sandboxd_client.sync_stream import Stream

__all__ = [
    "AsyncClient",
    "AsyncRun",
    "AsyncStream",
    "CaseResult",
    "Client",
    "ConnectionFailed",
    "Event",
    "Health",
    "JudgeOptions",
    "Judgement",
    "Language",
    "Limits",
    "Outcome",
    "Output",
    "Overload",
    "RequestError",
    "Result",
    "Run",
    "RunOptions",
    "RunRecord",
    "SandboxdError",
    "ServerError",
    "Status",
    "Stream",
    "Timeout",
    "__version__",
    "save_files",
]
