"""Tools and resources, and what they do with a client of the service."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any, Literal

from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Image
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field
from sandboxd_client import AsyncClient, AsyncSandbox, CodeValue, RequestError, SandboxdError

from sandboxd import __version__

Clients = Callable[["Ctx"], AbstractAsyncContextManager[AsyncClient]]
"""The client with which a call is carried out: of whoever calls."""
Ctx = Context[Any, Any]

SHARED = "mcp"
"""Key of the sandbox that is used where none is named."""
_TEMPLATE = "code"
_LIFETIME = 3600.0
_IDLE = 900.0
_TEXT_MAX = 20_000
"""Characters of each stream, value or file that a model gets to see."""
_TELL_EVERY = 0.2
"""Seconds between two notices of progress."""
_FILE_MAX = 4 << 20
"""Bytes of a file as a resource."""
_LISTED = 200

INSTRUCTIONS = """\
Runs code and commands in isolated Linux sandboxes. Files and interpreter state stay between calls as
long as the sandbox lives. Without `sandbox`, one is used that is made on demand and shared by your calls;
create others to keep work apart. There is no network in a sandbox unless it was created with one."""

SandboxId = Annotated[
    str | None, Field(description="Id of a sandbox; leave it out for the shared one.")
]
Seconds = Annotated[float, Field(gt=0, le=600, description="Seconds after which it is stopped.")]
_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_ACTS = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
_ENDS = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False)


class SandboxRecord(BaseModel):
    id: str
    state: str
    template: str
    image: str
    network: str
    expires_at: str


class FileRecord(BaseModel):
    path: str
    type: str
    size: int


def make_server(clients: Clients) -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer(
        "sandboxd", title="sandboxd", version=__version__, instructions=INSTRUCTIONS,
        log_level="WARNING",
    )  # fmt: skip
    _add_running(server, clients)
    _add_files(server, clients)
    _add_life(server, clients)
    return server


def _add_running(server: MCPServer[Any], clients: Clients) -> None:
    @server.tool(annotations=_ACTS, structured_output=False)
    async def run_code(
        code: str,
        ctx: Ctx,
        language: Literal["python", "javascript", "bash", "r", "java"] = "python",
        sandbox: SandboxId = None,
        timeout: Seconds = 60.0,
    ) -> list[str | Image]:
        """Run code in an interpreter that keeps its variables from call to call. The value of the last
        expression is part of the answer; figures and images are shown."""
        async with _opened(clients, ctx, sandbox) as box:
            progress = _Progress(ctx)
            context = box.contexts.default(language)
            async for piece in context.stream(code, timeout=timeout):
                await progress.take(piece)
            return progress.answer()

    @server.tool(annotations=_ACTS, structured_output=False)
    async def run_command(
        command: str,
        ctx: Ctx,
        cwd: str = "/work",
        sandbox: SandboxId = None,
        timeout: Seconds = 60.0,
    ) -> str:
        """Run a script of /bin/sh. The answer has its output and, unless it is 0, its exit code."""
        async with _opened(clients, ctx, sandbox) as box:
            progress = _Progress(ctx)
            async with asyncio.TaskGroup() as told:

                def hear(text: str) -> None:
                    told.create_task(progress.tell(text))

                result = await box.run(
                    command, cwd=cwd, timeout=timeout, on_stdout=hear, on_stderr=hear
                )
            ending = "timed out" if result.timed_out else f"exit code {result.exit_code}"
            parts = [_shortened(result.stdout), _labelled("stderr", result.stderr)]
            parts += [] if result.ok else [f"[{ending}]"]
            return "\n".join(part for part in parts if part)


def _add_files(server: MCPServer[Any], clients: Clients) -> None:
    @server.tool(annotations=_READS, structured_output=False)
    async def read_file(path: str, ctx: Ctx, sandbox: SandboxId = None) -> str:
        """Read a text file."""
        async with _opened(clients, ctx, sandbox) as box:
            return _shortened(await box.files.read_text(path))

    @server.tool(annotations=_ACTS, structured_output=False)
    async def write_file(path: str, content: str, ctx: Ctx, sandbox: SandboxId = None) -> str:
        """Write a text file; directories that are missing are made."""
        async with _opened(clients, ctx, sandbox) as box:
            return f"{(await box.files.write(path, content)).size} bytes in {path}"

    @server.tool(annotations=_READS)
    async def list_files(
        ctx: Ctx,
        path: str = "/work",
        depth: Annotated[int, Field(ge=1, le=16)] = 1,
        sandbox: SandboxId = None,
    ) -> list[FileRecord]:
        """List a directory."""
        async with _opened(clients, ctx, sandbox) as box:
            found: list[FileRecord] = []
            async for info in box.files.list(path, depth=depth):
                name = (
                    info.path if isinstance(info.path, str) else info.path.decode(errors="replace")
                )
                found.append(FileRecord(path=name, type=info.type, size=info.size))
                if len(found) == _LISTED:
                    break
            return found

    @server.resource("sandbox://{sandbox}/{+path}", name="file", description="A file of a sandbox")
    async def file(sandbox: str, path: str, ctx: Ctx) -> str | bytes:
        async with _opened(clients, ctx, sandbox) as box:
            info = await box.files.stat(f"/{path}")
            if info.size > _FILE_MAX:
                raise ToolError(f"the file has {info.size} bytes; at most {_FILE_MAX} are shown")
            data = await box.files.read(f"/{path}")
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data


def _add_life(server: MCPServer[Any], clients: Clients) -> None:
    @server.tool(annotations=_ACTS)
    async def create_sandbox(
        ctx: Ctx,
        template: str = _TEMPLATE,
        image: Annotated[str | None, Field(description="A snapshot, or an image by name.")] = None,
        network: Annotated[str, Field(description="`none`, or an operator's policy.")] = "none",
        lifetime: Annotated[float, Field(gt=0, description="Seconds until it ends.")] = _LIFETIME,
    ) -> SandboxRecord:
        """Create a sandbox of its own, and get its id for the other tools."""
        options: dict[str, Any] = {"template": template, "network": network, "timeout": lifetime}
        if image is not None:
            options["image"] = image
        async with _guarded(), clients(ctx) as client:
            return _record((await AsyncSandbox.create(client=client, **options)).info)

    @server.tool(annotations=_READS)
    async def list_sandboxes(ctx: Ctx) -> list[SandboxRecord]:
        """List your sandboxes that live."""
        async with _guarded(), clients(ctx) as client:
            found = [
                _record(info)
                async for info in AsyncSandbox.list(client=client)
                if info.state != "ended"
            ]
            return found[:_LISTED]

    @server.tool(annotations=_ENDS, structured_output=False)
    async def kill_sandbox(sandbox: str, ctx: Ctx) -> str:
        """End a sandbox with everything in it."""
        async with _opened(clients, ctx, sandbox) as box:
            await box.kill()
            return f"{sandbox} has ended"

    @server.tool(annotations=_ACTS, structured_output=False)
    async def snapshot_sandbox(ctx: Ctx, sandbox: SandboxId = None, name: str | None = None) -> str:
        """Keep a sandbox's files as an image, from which `create_sandbox` makes others."""
        async with _opened(clients, ctx, sandbox) as box:
            return (await box.snapshot(name)).image


@asynccontextmanager
async def _opened(clients: Clients, ctx: Ctx, sandbox: str | None) -> AsyncIterator[AsyncSandbox]:
    """The sandbox that is named, or the shared one. Raises ToolError for what a model can mend."""
    async with _guarded(), clients(ctx) as client:
        if sandbox is None:
            yield await AsyncSandbox.create(
                client=client, key=SHARED, template=_TEMPLATE, timeout=_LIFETIME,
                idle_timeout=_IDLE, metadata={"made_by": "mcp"},
            )  # fmt: skip
        else:
            yield await AsyncSandbox.connect(sandbox, client=client)


@asynccontextmanager
async def _guarded() -> AsyncIterator[None]:
    try:
        yield
    except RequestError as error:
        raise ToolError(f"{error.detail} ({error.code})") from None
    except SandboxdError as error:
        raise ToolError(f"the service cannot do this now: {error}") from None


class _Progress:
    """What code has done so far: told while it runs, and put together for the answer."""

    def __init__(self, ctx: Ctx) -> None:
        self._ctx = ctx
        self._texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._shown: list[str | Image] = []
        self._failed = ""
        self._told = 0.0
        self._count = 0

    async def take(self, piece: Any) -> None:
        if isinstance(piece, CodeValue):
            self._shown += _shown(piece)
        elif hasattr(piece, "traceback"):
            self._failed = piece.traceback or f"{piece.name}: {piece.value}"
        else:
            text = piece.data.decode()
            self._texts[piece.stream].append(text)
            await self.tell(text)

    async def tell(self, text: str) -> None:
        self._count += len(text)
        now = time.monotonic()
        if text and now - self._told > _TELL_EVERY:
            self._told = now
            await self._ctx.report_progress(self._count, message=text[-1000:])

    def answer(self) -> list[str | Image]:
        stdout, stderr = ("".join(self._texts[name]) for name in ("stdout", "stderr"))
        parts: list[str | Image] = [part for part in (
            _shortened(stdout), _labelled("stderr", stderr),
        ) if part]  # fmt: skip
        parts += self._shown
        if self._failed:
            parts.append(_shortened(self._failed))
        return parts or ["(nothing was printed)"]


def _shown(value: CodeValue) -> list[str | Image]:
    if value.png is not None:
        return [Image(data=value.png, format="png")]
    if value.jpeg is not None:
        return [Image(data=value.jpeg, format="jpeg")]
    text = value.markdown or value.text or value.html or value.latex
    return [_shortened(text)] if text else []


def _labelled(name: str, text: str) -> str:
    return f"[{name}]\n{_shortened(text)}" if text else ""


def _shortened(text: str) -> str:
    if len(text) <= _TEXT_MAX:
        return text
    half = _TEXT_MAX // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def _record(info: Any) -> SandboxRecord:
    return SandboxRecord(
        id=info.id, state=info.state, template=info.template, image=info.image,
        network=info.network, expires_at=info.expires_at,
    )  # fmt: skip
