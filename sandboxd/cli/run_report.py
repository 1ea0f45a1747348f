"""What `sandboxd run` says at the end: the accounting, the collected files, the exit code."""

import signal
from pathlib import Path

import click
from sandboxd_client import (
    ConnectionFailed,
    Outcome,
    Overload,
    RequestError,
    Result,
    SandboxdError,
    Status,
    Timeout,
    save_files,
)

EXIT_CODES = """\b
Exit codes:
  the program's own; 128 + n if signal n ended it
  65   it did not compile
  122  disk limit
  124  CPU or wall time limit
  130  cancelled
  137  memory limit
  153  output limit
  159  forbidden system call
  and where there is no verdict:
  2    the request is wrong
  69   the service cannot be reached
  70   the service failed
  73   a collected file could not be written
  75   the service is overloaded
  77   the API key is not accepted
"""
CANNOT_CREATE = 73

_CODES: dict[str, int] = {
    Status.CPU_TIME_EXCEEDED: 124,  # as timeout(1)
    Status.WALL_TIME_EXCEEDED: 124,
    Status.MEMORY_EXCEEDED: 137,  # as SIGKILL of the OOM killer
    Status.OUTPUT_EXCEEDED: 153,  # as SIGXFSZ
    Status.DISK_EXCEEDED: 122,  # EDQUOT
    Status.SECURITY_VIOLATION: 159,  # as SIGSYS
    Status.COMPILE_ERROR: 65,  # EX_DATAERR
    Status.CANCELLED: 130,  # as SIGINT
}
_FAILED = 70


def exit_code(result: Result) -> int:
    """What a shell would say of the program, or the code of the limit that ended it."""
    if result.status in (Status.OK, Status.NONZERO_EXIT):
        return result.exit_code or 0
    if result.status == Status.SIGNALLED:
        return 128 + signal.Signals.__members__.get(result.signal or "", 0)
    return _CODES.get(result.status, _FAILED)


def failure(error: SandboxdError, who: str = "sandboxd run") -> int:
    """Says in one line why there is no verdict; gives the exit code."""
    detail = " ".join(error.detail.split())
    field = f" ({error.field})" if error.field else ""
    click.echo(f"{who}: {detail}{field} [{error.code}]{_advice(error)}", err=True)
    match error:
        case Overload():
            return 75
        case RequestError():
            return 77 if error.status in (401, 403) else 2
        case ConnectionFailed() | Timeout():
            return 69
    return _FAILED


def _advice(error: SandboxdError) -> str:
    if isinstance(error, ConnectionFailed) and error.retryable:
        return "; is `sandboxd serve` running? SANDBOXD_URL says where to look"
    return "; SANDBOXD_API_KEY has the key" if error.status == 401 else ""


def compiler_output(result: Result) -> bytes:
    """What the compiler said, if it refused the program."""
    refused = result.compile
    if result.status != Status.COMPILE_ERROR or refused is None:
        return b""
    return refused.stdout_bytes + refused.stderr_bytes


def accounting(result: Result) -> str:
    """`ok: exit 0, cpu 0.011 s, wall 0.013 s, memory 8.8 MiB`"""
    spent: Outcome = result
    if result.status == Status.COMPILE_ERROR and result.compile is not None:
        spent = result.compile
    parts = []
    if spent.signal is not None:
        parts.append(spent.signal)
    elif spent.exit_code is not None:
        parts.append(f"exit {spent.exit_code}")
    parts.append(f"cpu {spent.cpu_time:.3f} s")
    parts.append(f"wall {spent.wall_time:.3f} s")
    parts.append(f"memory {spent.peak_memory / (1 << 20):.1f} MiB")
    for name in ("stdout", "stderr"):
        if getattr(result, f"{name}_truncated"):
            parts.append(f"{name} truncated")
    if result.reason is not None:
        parts.append(result.reason)
    return f"{result.status}: {', '.join(parts)}"


def save_collected(result: Result, wanted: tuple[str, ...], directory: Path, quiet: bool) -> bool:
    """Writes the files that were asked for, and says what was not. False if one cannot be written.

    A name that was not asked for is not written, whatever the service sends.
    """
    try:
        files = {name: result.files[name] for name in wanted if name in result.files}
        written = save_files(files, directory)
    except (OSError, ValueError) as error:
        click.echo(f"sandboxd run: {directory}: {error}", err=True)
        return False
    if not quiet:
        for path in written:
            click.echo(f"collected {path}", err=True)
        for name, why in result.file_errors.items():
            click.echo(f"not collected {name!r}: {why}", err=True)
    return True
