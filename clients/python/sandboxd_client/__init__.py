"""Client of sandboxd: untrusted code in, exact verdict out; sandboxes that live. Sync and async."""

from sandboxd_client._version import __version__
from sandboxd_client.async_client import AsyncClient, AsyncRun
from sandboxd_client.async_contexts import AsyncContext
from sandboxd_client.async_sandbox import AsyncProcess, AsyncSandbox
from sandboxd_client.async_stream import AsyncStream
from sandboxd_client.async_terminal import AsyncTerminal
from sandboxd_client.async_tools import AsyncSandboxTools
from sandboxd_client.collected import save_files
from sandboxd_client.context_model import CodeError, CodeResult, CodeValue, ContextInfo
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
from sandboxd_client.sandbox_model import (
    CommandResult,
    FileEvent,
    FileInfo,
    Metrics,
    MetricsHistory,
    MetricsSample,
    NetworkRecord,
    PortLink,
    ProcessInfo,
    SandboxEnd,
    SandboxEvent,
    SandboxInfo,
    SandboxLimits,
    SandboxState,
    SignedUrl,
    Snapshot,
)
from sandboxd_client.store import Image, ImageDetail, Progress, TemplateInfo, Volume
from sandboxd_client.sync_client import Client, Run
from sandboxd_client.sync_contexts import Context
from sandboxd_client.sync_sandbox import Process, Sandbox
from sandboxd_client.sync_stream import Stream
from sandboxd_client.sync_terminal import Terminal
from sandboxd_client.sync_tools import SandboxTools
from sandboxd_client.template import Template
from sandboxd_client.unpacking import unpack_tar

__all__ = [
    "AsyncClient",
    "AsyncContext",
    "AsyncProcess",
    "AsyncRun",
    "AsyncSandbox",
    "AsyncSandboxTools",
    "AsyncStream",
    "AsyncTerminal",
    "CaseResult",
    "Client",
    "CodeError",
    "CodeResult",
    "CodeValue",
    "CommandResult",
    "ConnectionFailed",
    "Context",
    "ContextInfo",
    "Event",
    "FileEvent",
    "FileInfo",
    "Health",
    "Image",
    "ImageDetail",
    "JudgeOptions",
    "Judgement",
    "Language",
    "Limits",
    "Metrics",
    "MetricsHistory",
    "MetricsSample",
    "NetworkRecord",
    "Outcome",
    "Output",
    "Overload",
    "PortLink",
    "Process",
    "ProcessInfo",
    "Progress",
    "RequestError",
    "Result",
    "Run",
    "RunOptions",
    "RunRecord",
    "Sandbox",
    "SandboxEnd",
    "SandboxEvent",
    "SandboxInfo",
    "SandboxLimits",
    "SandboxState",
    "SandboxTools",
    "SandboxdError",
    "ServerError",
    "SignedUrl",
    "Snapshot",
    "Status",
    "Stream",
    "Template",
    "TemplateInfo",
    "Terminal",
    "Timeout",
    "Volume",
    "__version__",
    "save_files",
    "unpack_tar",
]
