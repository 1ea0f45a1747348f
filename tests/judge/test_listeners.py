"""Adapters at the root of listeners and host names of their own, all in one service."""

import json
import socket
import tempfile
from pathlib import Path

import httpx
import judge0
import pytest
from ultra_piston import File, PistonClient
from websockets.sync.client import connect

from sandboxd.gateway.adapters import hosts
from sandboxd.settings import AdapterSettings, SettingsError
from tests.service.instance import running


def free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@pytest.fixture(scope="module")
def fronts():
    """The service, ports of three adapters, and the unix socket of the fourth."""
    ports = free_ports(3)
    # The gateway's own user binds and is connected to, which pytest's tmp_path forbids.
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "go_judge.sock"
        with running(
            f"adapters.judge0_listen=127.0.0.1:{ports[0]}",
            f"adapters.piston_listen=127.0.0.1:{ports[1]}",
            f"adapters.sandboxfusion_listen=127.0.0.1:{ports[2]}",
            f"adapters.go_judge_listen=unix:{path}",
            "adapters.judge0_host=Judge0.localhost",
            "adapters.go_judge_host=go-judge.localhost",
        ) as service:
            yield service, ports, path


def test_each_adapter_serves_its_clients_at_the_root_of_its_listener(fronts):
    _, ports, path = fronts
    client = judge0.Client(f"http://127.0.0.1:{ports[0]}")
    client.retry_strategy = judge0.MaxWaitTime(60)
    done = judge0.run(client=client, source_code="print(6 * 7)", language=judge0.PYTHON)
    assert done.stdout == "42\n"
    piston = PistonClient(base_url=f"http://127.0.0.1:{ports[1]}/api/v2/")
    ran = piston.post_execute(language="python", version="*", file=File(content="print(8)"))
    assert ran.run.stdout == "8\n"
    fusion = httpx.post(
        f"http://127.0.0.1:{ports[2]}/run_code",
        json={"language": "python", "code": "print(9)"}, timeout=60,
    ).json()  # fmt: skip
    assert fusion["run_result"]["stdout"] == "9\n"
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=60) as go:
        body = {"cmd": [{"args": ["/bin/echo", "10"], "files": [None, {"name": "out", "max": 9}]}]}
        [result] = go.post("http://localhost/run", json=body).json()
    assert result["files"] == {"out": "10\n"}


def test_a_listener_has_its_adapter_and_nothing_else(fronts):
    service, ports, _ = fronts
    for path in ("/v1/languages", "/healthz", "/compat/piston/api/v2/runtimes", "/api/v2/runtimes"):
        assert httpx.get(f"http://127.0.0.1:{ports[0]}{path}").status_code == 404
    assert httpx.get(f"http://127.0.0.1:{ports[0]}/../../v1/languages").status_code == 404
    assert httpx.get(f"{service.url}/languages").status_code == 404
    assert httpx.get(f"{service.url}/compat/judge0/languages").status_code == 200


def test_an_adapter_is_meant_by_its_host_name(fronts):
    service, _, _ = fronts
    port = service.url.rpartition(":")[2]
    named = {"host": f"judge0.LOCALHOST:{port}"}
    answer = httpx.get(f"{service.url}/languages", headers=named)
    assert (answer.status_code, bool(answer.json())) == (200, True)
    assert httpx.get(f"{service.url}/v1/languages", headers=named).status_code == 404
    # Our own names are still ours, and a name that is nobody's is still refused.
    assert httpx.get(f"{service.url}/v1/languages").status_code == 200
    assert (
        httpx.get(f"{service.url}/languages", headers={"host": "judge0.example"}).status_code == 403
    )
    with (
        socket.create_connection(("127.0.0.1", int(port))) as raw,
        connect(f"ws://go-judge.localhost:{port}/ws", sock=raw) as wire,
    ):
        wire.send(json.dumps({"requestId": "", "cmd": []}))
        assert json.loads(wire.recv(timeout=30))["error"] == "empty request id"


def test_two_adapters_of_one_name_are_refused():
    with pytest.raises(SettingsError, match="piston_host"):
        hosts(AdapterSettings(judge0_host="a.localhost", piston_host="A.localhost"))
    assert hosts(AdapterSettings()) == {}
