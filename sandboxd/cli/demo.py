"""`sandboxd demo`: real programs through the HTTP API, and what became of each.

Without `--url` it starts a service of its own on a free port, in directories of its own, and stops
it at the end. It ends with 0 only if every answer was right.
"""

import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from sandboxd_client import Client, Result, SandboxdError

from sandboxd import settings
from sandboxd.cli.demo_programs import IMAGE_PROGRAMS, PROGRAMS, Program

READY_WITHIN = 60.0
STOPPED_WITHIN = 30.0
LOG_TAIL = 4_000
"""Characters of the service's log that an error shows."""

COLUMNS = (
    ("program", 16), ("language", 9), ("status", 20), ("exit", 8),
    ("CPU s", 7), ("wall s", 7), ("peak MiB", 9),
)  # fmt: skip


@click.command("demo")
@click.option("--url", help="Use this running service instead of starting one.")
@click.option("--api-key", envvar="SANDBOXD_API_KEY", help="Key for --url.")
def demo(url: str | None, api_key: str | None) -> None:
    """Run programs of every language and against every limit, and check each answer."""
    if url is not None:
        right = _show(url, api_key)
    else:
        with _service() as own:
            right = _show(own, None)
        click.echo("The service is stopped.")
    if not right:
        raise SystemExit(1)


def _show(url: str, api_key: str | None) -> bool:
    """Runs every program and prints its row. Whether all answers were right."""
    with Client(url, api_key) as client:
        offered = {
            language.name
            for language in client.languages()
            if language.document.get("available", True)
        }
        click.echo("".join(f"{name:{width}}" for name, width in COLUMNS) + " right")
        images = _images(client)
        faulty, layers = 0, None
        for program in (*PROGRAMS, *IMAGE_PROGRAMS):
            if program.language not in (images if program.command else offered):
                missing = "not made: make images" if program.command else "not on this machine"
                click.echo(f"{program.title:16}{program.language:9}{missing}")
                continue
            result, faults = _run(client, program)
            click.echo(_row(program, result) + ("  ✗" if faults else "  ✓"))
            for fault in faults:
                click.echo(f"    {fault}")
            faulty += bool(faults)
            if result is not None:
                held = set(result.isolation)
                layers = held if layers is None else layers & held
    click.echo(f"\nLayers that held in every run: {', '.join(sorted(layers or ()))}")
    click.echo("Every answer was right." if not faulty else f"{faulty} answers were wrong.")
    return not faulty and bool(layers)


def _images(client: Client) -> set[str]:
    """Names of the images that the service has; none if it has no node of its own machine."""
    try:
        return {image.name.removesuffix(":latest") for image in client.images.list()}
    except SandboxdError:
        return set()


def _run(client: Client, program: Program) -> tuple[Result | None, list[str]]:
    try:
        result = client.run(**program.options())
    except SandboxdError as error:
        return None, [f"{error.code}: {error}"]
    return result, program.faults(result)


def _row(program: Program, result: Result | None) -> str:
    if result is None:
        cells = [program.title, program.language, "no answer"] + [""] * 4
    else:
        end = result.signal or ("-" if result.exit_code is None else str(result.exit_code))
        cells = [
            program.title,
            program.language,
            str(result.status),
            end,
            f"{result.cpu_time:.3f}",
            f"{result.wall_time:.3f}",
            f"{result.peak_memory / (1 << 20):.1f}",
        ]
    return "".join(f"{cell:{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True))


@contextmanager
def _service() -> Iterator[str]:
    """The URL of a service that lives as long as the block."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-demo-") as name:
        directory = Path(name)
        directory.chmod(0o711)  # the gateway's own user has to get through
        port = _free_port()
        log = directory / "log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                _serve(directory, port),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=sink,
            )
        try:
            _wait_ready(process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            _stop(process)
        if process.returncode != 0:
            raise click.ClickException(f"the service ended with {process.returncode}\n{_tail(log)}")


def _serve(directory: Path, port: int) -> list[str]:
    argv = [sys.executable, "-m", "sandboxd.cli.main"]
    for setting in (
        f"instance=demo-{os.getpid()}-{secrets.token_hex(2)}",
        f"run_dir={directory / 'run'}",
        f"state_dir={directory / 'state'}",
        f"gateway.listen=127.0.0.1:{port}",
        *_toolchains(),
        *_store(),
    ):
        argv += ["--set", setting]
    return [*argv, "serve"]


def _store() -> list[str]:
    """The images of this machine's own store, if it has one."""
    path = settings.load().graph_path
    return [f"graph.path={path}"] if (path / "graph.db").is_file() else []


def _toolchains() -> list[str]:
    """Shows a Rust that rustup put into a home directory to the sandboxes, read-only, at /opt/rust."""
    rustc = shutil.which("rustc")
    if rustc is None or Path(rustc).resolve().is_relative_to("/usr"):
        return []
    found = subprocess.run(
        [rustc, "--print", "sysroot"], capture_output=True, text=True, check=False
    )
    return [f"host_image.binds=/opt/rust={found.stdout.strip()}"] if found.returncode == 0 else []


def _wait_ready(process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Until the service says so on its stdout, which ends if it fails."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], READY_WITHIN)
    if not readable or not process.stdout.readline():
        raise click.ClickException(f"the service did not start\n{_tail(log)}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOPPED_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-LOG_TAIL:]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
