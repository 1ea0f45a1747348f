"""inspect_ai: evaluations whose samples run in sandboxes of sandboxd.

`Task(..., sandbox="sandboxd")`, or with options of a new sandbox
`sandbox=SandboxEnvironmentSpec("sandboxd", SandboxdConfig(image=...))`. inspect_ai finds it by its entry
point. Where the service is, `SANDBOXD_URL` and `SANDBOXD_API_KEY` say.
"""

import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, overload

from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentLimits,
    SandboxUserUnsupportedError,
    sandboxenv,
)
from pydantic import BaseModel

from sandboxd_client.async_client import AsyncClient
from sandboxd_client.async_sandbox import AsyncSandbox
from sandboxd_client.errors import RequestError, Timeout
from sandboxd_client.sandbox_model import CommandResult

_LONGEST = 12 * 3600.0
_INPUT_MAX = 8 << 20
_FAILED_TO_START = {"denied": 126, "not_found": 127}


class SandboxdConfig(BaseModel, frozen=True):
    """Of each sample's sandbox; what is left out is the service's."""

    template: str | None = None
    image: str | None = None
    network: str | None = None
    memory: int | None = None
    """Bytes."""
    cpus: float | None = None
    timeout: float = _LONGEST
    """Seconds that a sample may take."""


@sandboxenv(name="sandboxd")
class SandboxdEnvironment(SandboxEnvironment):  # type: ignore[misc]
    def __init__(self, client: AsyncClient, sandbox: AsyncSandbox) -> None:
        super().__init__()
        self._client, self._sandbox = client, sandbox

    @classmethod
    async def sample_init(
        cls, task_name: str, config: Any, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        options = _options(config)
        client = AsyncClient()
        try:
            sandbox = await AsyncSandbox.create(
                client=client, metadata={"inspect_task": task_name[:1000]}, **options
            )
        except BaseException:
            await client.aclose()
            raise
        return {"default": cls(client, sandbox)}

    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: Any,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        for environment in environments.values():
            assert isinstance(environment, SandboxdEnvironment)
            try:
                await environment._sandbox.kill()
            finally:
                await environment._client.aclose()

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        return SandboxdConfig(**config)

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        if user not in (None, "sandbox", "1000"):
            raise SandboxUserUnsupportedError(f"a sandbox has one user, and {user!r} is another")
        options: Any = {
            "timeout": float(timeout) if timeout else None, "env": env or {},
            "cwd": _absolute(cwd), "keep_output": SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE,
        }  # fmt: skip
        if len(input or "") > _INPUT_MAX:
            result = await self._with_large_input(cmd, input or "", options)
        else:
            result = await self._sandbox.run(cmd, input=input or "", **options)
        if result.timed_out:
            raise TimeoutError(f"the command took more than {timeout} seconds")
        process = result.process
        code = process.exit_code
        if code is None:
            code = _FAILED_TO_START.get(process.error or "", 128)
            if process.signal is not None:
                code = 128 + int(getattr(signal, process.signal, 0))
        if process.error == "denied":
            raise PermissionError(f"{cmd[0]}: permission denied")
        return ExecResult(code == 0, code, result.stdout, result.stderr or process.error or "")

    async def _with_large_input(
        self, cmd: list[str], input: str | bytes, options: Any
    ) -> CommandResult:
        """More than a request carries goes by a file."""
        path = f"/tmp/.input-{secrets.token_hex(8)}"  # noqa: S108 -- the sandbox's own
        await self._sandbox.files.write(path, input)
        try:
            script = ["/bin/sh", "-c", 'exec "$@" < "$0"', path, *cmd]
            return await self._sandbox.run(script, **options)
        finally:
            await self._sandbox.files.remove(path)

    async def write_file(self, file: str, contents: str | bytes) -> None:
        with _os_errors(file):
            if not await self._writable(file):
                raise PermissionError(f"{file} may not be written to")
            await self._sandbox.files.write(file, contents)

    async def _writable(self, file: str) -> bool:
        """A file is replaced as a whole, which its own permissions would not hinder."""
        try:
            return bool((await self._sandbox.files.stat(file)).mode & 0o200)
        except RequestError as error:
            if error.code != "path_not_found":
                raise
            return True

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        most = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE
        parts, size = [], 0
        with _os_errors(file):
            async for piece in self._sandbox.files.stream(file):
                parts.append(piece)
                size += len(piece)
                if size > most:
                    limit = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR
                    raise OutputLimitExceededError(limit, None)
        data = b"".join(parts)
        return data.decode() if text else data


def _options(config: Any) -> Any:
    found = config if isinstance(config, SandboxdConfig) else SandboxdConfig()
    options: dict[str, Any] = {
        name: getattr(found, name)
        for name in ("template", "image", "network", "timeout")
        if getattr(found, name) is not None
    }
    limits = {n: getattr(found, n) for n in ("memory", "cpus") if getattr(found, n) is not None}
    return {**options, "limits": limits} if limits else options


def _absolute(cwd: str | None) -> str:
    if cwd is None:
        return "/work"
    return cwd if cwd.startswith("/") else f"/work/{cwd}"


@contextmanager
def _os_errors(file: str) -> Iterator[None]:
    """The errors that inspect_ai's own environments raise."""
    try:
        yield
    except Timeout as error:
        raise TimeoutError(error.detail) from error
    except RequestError as error:
        match error.code:
            case "path_not_found":
                raise FileNotFoundError(file) from error
            case "path_denied":
                raise PermissionError(file) from error
            case "wrong_file_type":
                raise IsADirectoryError(f"{file} is a directory") from error
            case "invalid_request" if error.field == "path":
                raise IsADirectoryError(f"{file} is a directory") from error
        raise
