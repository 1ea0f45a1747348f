"""What every test may use: a private Redis, a whole service, a loop that refuses to be blocked."""

import inspect
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from blockbuster import blockbuster_ctx

from tests.service.instance import Service, running

# How long an example takes says how busy the machine is, not whether it is right.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")

# A shell has what it starts in the background ignore these, and every program that a test starts would
# inherit that: an interrupt would end none of them.
for _number, _action in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _action)


@pytest.fixture(autouse=True)
def _loop_never_blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    """An async test fails when the package's own code blocks its event loop."""
    if not inspect.iscoroutinefunction(getattr(request, "function", None)):
        yield
        return
    with blockbuster_ctx("sandboxd"):
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "NATIVE_BUILD" not in os.environ:  # see `make sanitize`
        return
    for item in items:
        for mark in item.iter_markers("unsanitized"):
            item.add_marker(pytest.mark.skip(f"sanitised: {mark.args[0]}"))


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Redis of this test session, without persistence."""
    directory = tmp_path_factory.mktemp("redis")
    path = directory / "redis.sock"
    server = subprocess.Popen(
        [
            "redis-server",
            "--port",
            "0",
            "--unixsocket",
            str(path),
            "--save",
            "",
            "--dir",
            directory,
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        _until_listening(path, server)
        yield f"unix://{path}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A whole service of this test session. The session fails if it leaves anything behind."""
    with running() as service:
        yield service


def _until_listening(path: Path, server: "subprocess.Popen[bytes]") -> None:
    with socket.socket(socket.AF_UNIX) as probe:
        while server.poll() is None:
            if probe.connect_ex(str(path)) == 0:
                return
            time.sleep(0.01)
    raise RuntimeError("redis-server did not start")
