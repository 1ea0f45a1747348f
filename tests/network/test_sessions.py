"""Networks of sandboxes that stay, over the API: groups, parts of policies, and what is written down."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sandboxd_client import Client, RequestError, Sandbox

from tests.network.serving import serving
from tests.network.world import PUBLIC4, World
from tests.patience import PATIENCE
from tests.service.instance import Service

pytestmark = [pytest.mark.root, pytest.mark.service]

_POLICY = f"""
[[allow]]
domain = "one.example.org"
[[allow]]
domain = "held.example.org"
ports = [8500]
[[allow]]
cidr = "{PUBLIC4}"
ports = [80, 8080]
"""
_HOLD = """
import socket
with socket.create_connection(("held.example.org", 8500), 5) as line:
    line.sendall(b"GET / HTTP/1.1\\r\\nHost: held.example.org:8500\\r\\n\\r\\n")
    print(line.recv(100), flush=True)
    line.recv(100)
"""
LISTEN = """
import socket
server = socket.create_server(("", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    line, peer = server.accept()
    line.sendall(line.recv(100).upper())
    line.close()
"""
_SPEAK = """
import socket, sys
for target in sys.argv[1:]:
    host, port = target.rsplit("|", 1)
    try:
        with socket.create_connection((host, int(port)), 1.5) as line:
            line.sendall(b"hello")
            print(line.recv(100).decode() or "closed")
    except OSError as error:
        print("no")
"""


@pytest.fixture(scope="module")
def service(world: World) -> Iterator[Service]:
    # Groups span nodes here, though there is but one.
    with serving({"some": _POLICY}, "network.overlay=192.0.2.2") as service:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


def speak(sandbox: Sandbox, *targets: str) -> list[str]:
    done = sandbox.run(["python3", "-c", _SPEAK, *targets], timeout=20)
    assert done.exit_code == 0, done
    return done.stdout.split()


def test_a_group_finds_its_members_by_name_and_nobody_else_does(client: Client) -> None:
    def member(hostname: str | None, group: str | None, policy: str = "none") -> Sandbox:
        wanted = {"policy": policy, "group": group, "hostname": hostname}
        network = {name: word for name, word in wanted.items() if word}
        return Sandbox.create(client=client, network=network)

    boxes = [member("db", "red"), member(None, "red"), member("db", "blue")]
    boxes.append(Sandbox.create(client=client, network="some"))
    try:
        db, web, blue, alone = boxes
        assert db.info.network["group"] == "red"  # type: ignore[index]
        db.process.start(["python3", "-c", LISTEN])
        db.ports.wait(7000, 20)
        address = web.run(
            ["python3", "-c", "import socket; print(socket.gethostbyname('db.internal'))"]
        ).stdout.strip()
        assert address.startswith("10.213."), address
        assert speak(web, "db.internal|7000", f"{address}|7000", f"{address}|7001") == [
            "HELLO", "HELLO", "no",
        ]  # fmt: skip
        for other in (blue, alone):
            assert speak(other, f"{address}|7000") == ["no"]
        # A name of its own, for one that gave none; and the other's db is another.
        named = web.id.replace("_", "-") + ".internal"
        web.process.start(["python3", "-c", LISTEN])
        web.ports.wait(7000, 20)
        assert speak(db, f"{named}|7000") == ["HELLO"]
        assert speak(blue, "db.internal|7000", f"{named}|7000") == ["no", "no"]
        # Who is taken out of the group is out of it at once.
        web.update(network="none")
        assert speak(web, f"{address}|7000", "db.internal|7000") == ["no", "no"]
        web.update(network={"group": "red"})
        assert speak(web, "db.internal|7000") == ["HELLO"]
    finally:
        for box in boxes:
            box.kill()


@pytest.mark.parametrize(
    "network",
    [
        {},
        {"policy": "none"},
        {"policy": "some", "hostname": "x"},
        {"group": "UPPER"},
        {"group": "a.b"},
        {"group": "x", "hostname": "-x"},
        {"policy": "nothing", "group": "x"},
        {"group": "x", "allow": [{"cidr": PUBLIC4}]},
        {"policy": "some", "allow": [{"cidr": PUBLIC4, "ports": [81]}]},
        {"policy": "some", "allow": [{"domain": "two.example.org"}]},
    ],
)
def test_what_is_not_within_a_policy_is_refused(client: Client, network: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as refused:
        Sandbox.create(client=client, network=network).kill()
    assert refused.value.status == 422


def test_a_part_of_a_policy_holds_and_another_is_put_in_its_place(
    world: World, client: Client
) -> None:
    narrow = {"policy": "some", "allow": [{"cidr": PUBLIC4, "ports": [8080]}]}
    with Sandbox.create(client=client, network=narrow) as sandbox:
        assert speak(sandbox, f"{PUBLIC4}|80", f"{PUBLIC4}|8080")[0] == "no"
        world.settle()
        assert not any(packet.port == 80 for packet in world.packets)
        sandbox.update(network="some")
        assert speak(sandbox, f"{PUBLIC4}|80") == ["hello"]
        assert sandbox.info.network == "some"


def test_what_was_asked_is_written_down_and_outlives_the_sandbox(
    world: World, service: Service, client: Client
) -> None:
    world.names = {("one.example.org", "A"): [PUBLIC4]}
    streamed: list[dict[str, Any]] = []
    sandbox = Sandbox.create(client=client, network="some")

    def follow() -> None:
        url = f"{service.url}/v1/sandboxes/{sandbox.id}/network"
        with httpx.stream(
            "GET", url, headers={"Accept": "application/x-ndjson"}, timeout=60
        ) as got:
            streamed.extend(json.loads(line) for line in got.iter_lines() if line)

    following = threading.Thread(target=follow)
    following.start()
    assert speak(sandbox, f"{PUBLIC4}|8080", "192.0.2.77|80", "two.example.org|80") == [
        "hello", "no", "no",
    ]  # fmt: skip
    deadline = time.monotonic() + 15
    wanted = {("connection", "allowed"), ("refused", "default"), ("name", "refused")}
    while time.monotonic() < deadline:
        seen = {(record.kind, record.verdict) for record in sandbox.network_records()}
        if len(seen & wanted) >= 2 and any(kind == "name" for kind, _ in seen):
            break
        time.sleep(0.1)
    records = sandbox.network_records()
    assert any(r.kind == "connection" and r.address == PUBLIC4 and r.port == 8080 for r in records)
    assert any(r.kind == "refused" and r.address == "192.0.2.77" for r in records)
    names = [r for r in records if r.kind == "name" and r.name == "two.example.org"]
    assert names and names[0].verdict != "allowed"
    assert [r.id for r in records] == sorted(r.id for r in records)
    assert sandbox.network_records(after=records[0].id)[0].id == records[1].id
    sandbox.kill()
    following.join(30)
    assert not following.is_alive(), "the stream ends with the sandbox"
    assert [line["id"] for line in streamed][: len(records)] == [r.id for r in records]
    deadline = time.monotonic() + 10
    ended: list[Any] = []
    while not ended and time.monotonic() < deadline:  # its end cuts what the kernel still had of it
        ended = [r for r in sandbox.network_records(limit=1000) if r.kind == "ended"]
        time.sleep(0.1)
    assert [(r.address, r.port, r.protocol) for r in ended] == [(PUBLIC4, 8080, "tcp")]
    assert ended[0].sent > 100 and ended[0].received > 100
    printed = subprocess.run(
        [str(Path(sys.executable).parent / "sandboxd"), "sandbox", "network", sandbox.id],
        env={**os.environ, "SANDBOXD_URL": service.url}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"{PUBLIC4} tcp 8080" in printed.stdout and "two.example.org" in printed.stdout


@pytest.mark.parametrize("end", ["kill", "another policy"])
def test_what_a_proxied_connection_had_when_it_was_cut_is_written_down(
    world: World, client: Client, end: str
) -> None:
    world.names = {("held.example.org", "A"): [PUBLIC4]}
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome"  # and no more, ever
    server = world.inside(world.inet, lambda: socket.create_server((PUBLIC4, 8500)))
    with server, Sandbox.create(client=client, network="some") as sandbox:
        server.settimeout(20)
        holding = sandbox.process.start(["python3", "-c", _HOLD])
        line, _ = server.accept()
        with line:
            request = line.recv(1_000)
            line.sendall(answer)
            assert next(iter(holding.output())).data
            if end == "kill":
                sandbox.kill()
            else:
                sandbox.update(network="none")
            deadline = time.monotonic() + 15
            while not (found := [r for r in sandbox.network_records() if r.port == 8500]):
                assert time.monotonic() < deadline, sandbox.network_records()
                time.sleep(0.05)
    assert [(r.name, r.verdict, r.sent, r.received) for r in found] == [
        ("held.example.org", "cut", len(request), len(answer))
    ]


def test_updates_that_meet_their_sandboxes_end_leave_no_rules(client: Client) -> None:
    """Each asks for a policy of its own, which is written, or not, while the sandbox goes."""

    def chains() -> int:
        listed = subprocess.run(
            ["nft", "list", "chains"], capture_output=True, text=True, check=True
        )
        return listed.stdout.count("chain policy_")

    before = chains()
    outcomes = set()

    def update(sandbox: Sandbox, port: int) -> None:
        part = {"policy": "some", "allow": [{"cidr": PUBLIC4, "ports": [port]}]}
        try:
            sandbox.update(network=part)
            outcomes.add("done")
        except RequestError as error:
            outcomes.add(error.code)

    for number in range(12):
        sandbox = Sandbox.create(client=client, network="some")
        updating = threading.Thread(target=update, args=(sandbox, (80, 8080)[number % 2]))
        updating.start()
        time.sleep(number / 1_000)
        sandbox.kill()
        updating.join()
    deadline = time.monotonic() + 10 * PATIENCE
    while chains() > before:
        assert time.monotonic() < deadline, outcomes
        time.sleep(0.05)
