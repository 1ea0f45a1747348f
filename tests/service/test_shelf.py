"""Warm sandboxes that the host takes, as its OOM killer may, cost no job anything."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest

from tests.patience import PATIENCE
from tests.service import host
from tests.service.instance import Service

pytestmark = [pytest.mark.root, pytest.mark.service]

PROGRAM = {"language": "python", "source": "print(6 * 7)"}
COMMAND = {"template": "default", "command": ["echo", "42"]}


@pytest.mark.parametrize("program", ["sandbox-init", "python3"])
def test_what_died_before_its_job_came_fails_no_job(service: Service, program: str) -> None:
    with httpx.Client(base_url=service.url, timeout=60 * PATIENCE) as client:
        _until(lambda: _waiting(service, program))
        for _ in range(3):
            victims = _waiting(service, program)
            for pid in victims:
                with suppress(ProcessLookupError):  # it went with another one's
                    os.kill(pid, signal.SIGKILL)
            _until(lambda gone=victims: not any(_runs(pid) for pid in gone))
            for body in (PROGRAM, COMMAND):
                result = client.post("/v1/runs", json=body).json()
                assert (result.get("status"), result.get("stdout")) == ("ok", "42\n"), result


def _waiting(service: Service, program: str) -> list[int]:
    """Of the service's sandboxes, the processes of that program."""
    found = []
    for pid in service.sandbox_processes():
        argv = host.argv(pid)
        if argv and argv[0].rpartition("/")[2] == program:
            found.append(pid)
    return found


def _runs(pid: int) -> bool:
    return host.state(pid) not in (None, "X", "Z")


def _until(there: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30 * PATIENCE
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.02)
