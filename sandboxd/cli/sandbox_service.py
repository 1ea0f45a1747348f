"""The service that a command of `sandboxd sandbox` speaks to."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from sandboxd_client import Client, SandboxdError

from sandboxd.cli import run_report


@contextmanager
def service(url: str | None, command: str = "sandboxd sandbox") -> Iterator[Client]:
    """Errors of the service end the command with their exit code."""
    try:
        with Client(url) as client:
            yield client
    except SandboxdError as error:
        raise SystemExit(run_report.failure(error, command)) from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
