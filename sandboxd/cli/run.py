"""`sandboxd run FILE`: one program in one sandbox, as if it ran here.

Its output appears while it runs, our stdin is its stdin, Ctrl-C cancels it, and its exit code becomes
ours. It is a client like any other: HTTP and WebSocket through the SDK.
"""

import contextlib
import json
import os
import signal
import sys
import threading
from io import BytesIO, UnsupportedOperation
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, Literal, NoReturn, Self

import click
from sandboxd_client import Client, Result, Run, RunOptions, SandboxdError, Stream

from sandboxd.cli import run_report, run_request

_INTERRUPTED = 130
_BROKEN_PIPE = 141
_CHUNK = 1 << 16


@click.command("run", epilog=run_report.EXIT_CODES)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("arguments", nargs=-1, metavar="[-- ARGS]...")
@click.option("--language", help="By default told by the suffix of FILE.")
@click.option(
    "--stdin",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    default="-",
    help="The program's stdin; `-`, the default, is ours.",
)
@click.option("--limit", "limits", multiple=True, metavar="K=V", help="memory=64M, cpu_time=2 …")
@click.option("--arg", "args", multiple=True, help="An argument of the program.")
@click.option("--env", multiple=True, metavar="K=V")
@click.option("--file", "files", multiple=True, metavar="SRC[:DEST]", help="A file beside it.")
@click.option("--collect", multiple=True, metavar="PATH", help="A file to bring back.")
@click.option("--volume", "volumes", multiple=True, metavar="NAME:PATH[:ro]")
@click.option("--data", multiple=True, metavar="DIGEST:PATH", help="An image of one layer.")
@click.option("--output-dir", type=click.Path(file_okay=False, path_type=Path))
@click.option("--compile-arg", "compile_args", multiple=True)
@click.option("--url", envvar="SANDBOXD_URL", help="The service: http://host:port, unix:/path.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON at the end.")
@click.option("--quiet", is_flag=True, help="No accounting.")
def run(
    file: Path,
    arguments: tuple[str, ...],
    language: str | None,
    stdin: str,
    output_dir: Path | None,
    url: str | None,
    as_json: bool,
    quiet: bool,
    **repeated: tuple[str, ...],
) -> None:
    """Run the program in FILE in a sandbox and exit as it does."""
    if repeated["collect"] and output_dir is None and not as_json:
        raise click.UsageError("--collect needs --output-dir or --json")
    options = run_request.options(file, arguments, **repeated)
    try:
        with _client(url) as client:
            options["language"] = language or run_request.guess_language(client, file)
            result = (_whole if as_json else _live)(client, options, stdin)
        _report(result, as_json, quiet)
    except SandboxdError as error:
        raise SystemExit(run_report.failure(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None
    except BrokenPipeError:
        raise SystemExit(_BROKEN_PIPE) from None
    saved = output_dir is None or run_report.save_collected(
        result, repeated["collect"], output_dir, quiet
    )
    raise SystemExit(run_report.exit_code(result) if saved else run_report.CANNOT_CREATE)


def _client(url: str | None) -> Client:
    try:
        return Client(url)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _report(result: Result, as_json: bool, quiet: bool) -> None:
    if as_json:
        _show("stdout", json.dumps(result.document).encode() + b"\n")
        return
    _show("stderr", run_report.compiler_output(result))
    if not quiet:
        _show("stderr", run_report.accounting(result).encode() + b"\n")


def _whole(client: Client, options: RunOptions, stdin: str) -> Result:
    """The result at the end, the output in it."""
    with _source(stdin) as source:
        if not source.isatty():
            options["stdin"] = source.read()
    with _Interrupts() as interrupts:
        submitted = client.submit(**options)
        interrupts.cancel(submitted)
        return submitted.wait()


def _live(client: Client, options: RunOptions, stdin: str) -> Result:
    """Output as it comes out, stdin as it comes in."""
    options["interactive"] = True
    source = _source(stdin)
    with _Interrupts() as interrupts:
        submitted = client.submit(**options)
        interrupts.cancel(submitted)
        try:
            with submitted.stream() as stream:
                # A daemon: nothing can end its read from a terminal.
                threading.Thread(target=_pump, args=(source, stream), daemon=True).start()
                for piece in stream:
                    _show(piece.stream, piece.data)
                return stream.result()
        except (SandboxdError, BrokenPipeError):
            # Nobody watches any more; the first error is the one to tell.
            with contextlib.suppress(SandboxdError):
                submitted.cancel(timeout=2)
            raise


def _source(stdin: str) -> IO[bytes]:
    """Unbuffered where it can be: a thread that dies holding a buffer's lock breaks the exit."""
    if stdin != "-":
        return Path(stdin).open("rb", buffering=0)
    if sys.stdin is None:
        return BytesIO()
    try:
        return open(os.dup(sys.stdin.fileno()), "rb", buffering=0)
    except UnsupportedOperation:
        return BytesIO(sys.stdin.buffer.read())


def _pump(source: IO[bytes], stream: Stream) -> None:
    # Whoever reads the stream meets the same error and tells it; a failed read is an end of file.
    with source, contextlib.suppress(SandboxdError):
        with contextlib.suppress(OSError):
            while data := source.read(_CHUNK):
                stream.write(data)
        stream.close_stdin()


def _show(name: Literal["stdout", "stderr"], data: bytes) -> None:
    out = (sys.stdout if name == "stdout" else sys.stderr).buffer
    try:
        out.write(data)
        out.flush()
    except BrokenPipeError:
        # The interpreter flushes once more at its exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        raise


class _Interrupts:
    """The first SIGINT cancels the run, whose end then comes as usual; the second ends us."""

    def __init__(self) -> None:
        self._run: Run | None = None
        self._count = 0
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def cancel(self, submitted: Run) -> None:
        """From now on, and at once if the signal has come already."""
        self._run = submitted
        if self._count:
            self._cancel(submitted)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            _quit()
        if self._run is not None:
            self._cancel(self._run)

    def _cancel(self, submitted: Run) -> None:
        # In a thread: the main one may hold the very locks that a request needs.
        threading.Thread(target=_try_cancel, args=(submitted,), daemon=True).start()


def _try_cancel(submitted: Run) -> None:
    try:
        submitted.cancel()
    except SandboxdError as error:
        click.echo(f"sandboxd run: cannot cancel: {error.detail}", err=True)


def _quit() -> NoReturn:
    os._exit(_INTERRUPTED)
