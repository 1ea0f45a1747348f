"""`kill -9` of gateway or node: sandboxes and their processes go on, and clients come back to them."""

import os
import signal
import time
from collections.abc import Iterator

import pytest
from sandboxd_client import Client, Sandbox, SandboxdError

from tests.sandboxes.conftest import WAIT
from tests.service.instance import Service, running

pytestmark = [pytest.mark.root, pytest.mark.service]

_COUNTS = "i=0; while :; do i=$((i + 1)); echo line $i; sleep 0.05; done"


@pytest.fixture(scope="module")
def apart() -> Iterator[Service]:
    """A service of its own: what it goes through is nobody else's business."""
    with running() as service:
        yield service


def _kill(service: Service, role: str) -> None:
    pid = service.role(role)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + WAIT
    while service.role(role) in (pid, None):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    service.wait_ready()


def _again(sandbox: Sandbox) -> None:
    """Until the sandbox answers: it is told to be unavailable meanwhile, never to be gone."""
    deadline = time.monotonic() + WAIT
    while True:
        try:
            assert sandbox.run("cat kept").stdout == "here"
            return
        except SandboxdError as error:
            assert error.code in ("unavailable", "node_lost", "connection_failed"), error.code
            assert time.monotonic() < deadline, error
            time.sleep(0.1)


@pytest.mark.parametrize("role", ["gateway", "node"])
def test_a_client_comes_back_to_what_ran_on(apart: Service, role: str) -> None:
    with Client(apart.url) as client, Sandbox.create(client=client, key=role) as sandbox:
        sandbox.files.write("kept", "here")
        process = sandbox.process.start(_COUNTS)
        with process.attach() as terminal:
            assert terminal.receive() is not None
            _kill(apart, role)
            with pytest.raises(SandboxdError) as broken:
                while terminal.receive(WAIT) is not None:
                    pass
        assert broken.value.code in ("connection_failed", "node_lost", "unavailable")
        _again(sandbox)
        found = Sandbox.create(client=client, key=role)
        assert found.id == sandbox.id, "the key still leads there"
        assert sandbox.process.get(process.id).info.running
        seen = b""
        with process.attach() as terminal:
            while seen.count(b"\n") < 5:
                piece = terminal.receive(WAIT)
                assert piece is not None
                seen += piece.data
        numbers = [int(line.split()[1]) for line in seen.splitlines()[1:4]]
        assert numbers == list(range(numbers[0], numbers[0] + 3)), "lines are whole and in order"
        process.kill()
        assert process.wait(WAIT).signal == "SIGKILL"


def test_contexts_live_on(apart: Service) -> None:
    with (
        Client(apart.url) as client,
        Sandbox.create(client=client, template="code") as sandbox,
        sandbox.context() as context,
    ):
        sandbox.files.write("kept", "here")
        default = sandbox.contexts.default()
        for used in (context, default):
            assert used.run(f"name = {used.id!r}").ok
        for role in ("gateway", "node"):
            _kill(apart, role)
            _again(sandbox)
            for used in (context, default):
                assert used.run("name").text == repr(used.id)
        context.restart()
        assert context.run("name").status == "error"


def test_what_nobody_has_touched_is_there_after_its_node_died(apart: Service) -> None:
    """Nothing of a survivor's root is made anew below it: no name of it may be known by chance."""
    with Client(apart.url) as client, Sandbox.create(client=client) as sandbox:
        sandbox.files.write("kept", "here")
        for _ in range(2):
            _kill(apart, "node")
            _again(sandbox)
        assert sandbox.run("ls /bin/sh /lib64/ld-linux* && id -un").ok
        assert sandbox.files.read_text("/etc/hostname") == "sandbox\n"
        with Sandbox.create(client=client) as fresh:
            assert fresh.run("echo new").stdout == "new\n"
