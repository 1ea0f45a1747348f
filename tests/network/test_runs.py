"""Networks as clients get them: a whole service in `svc`, runs whose packets are looked for in `inet`."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.network.serving import run, serving
from tests.network.world import OTHER4, OTHER6, PUBLIC4, PUBLIC6, World
from tests.service.instance import Service

pytestmark = [pytest.mark.root, pytest.mark.service]

ASK = """
import socket, sys
for address in sys.argv[1:]:
    try:
        with socket.create_connection((address, 8080), 2) as connection:
            connection.sendall(b"from a run")
            print(connection.recv(100).decode())
    except OSError as error:
        print(type(error).__name__)
"""
EGRESS = {
    "narrow": f"""
[[allow]]
cidr = "{PUBLIC4}"
ports = [8080]
[[allow]]
cidr = "{PUBLIC6}"
ports = [8080]
""",
    "theirs": 'tenants = ["somebody"]\n',
}


@pytest.fixture(scope="module")
def served(world: World) -> Iterator[Service]:
    with serving(EGRESS, "network.firewall=nftables", "network.slots=80") as service:
        yield service
    assert not _traces_of_networks()


def _traces_of_networks() -> list[str]:
    """Devices and tables of sandboxes' networks that are in `svc`."""
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
    devices = [name for _, name in socket.if_nameindex() if name.startswith("sd")]
    return devices + [line for line in tables.stdout.splitlines() if "sandboxd" in line]


def _devices() -> set[int]:
    """Of sandboxes' networks in `svc`, by index, which no two ever have."""
    return {index for index, name in socket.if_nameindex() if name.startswith("sd")}


def test_a_run_reaches_what_its_network_names_and_nothing_else(
    world: World, served: Service
) -> None:
    world.packets.clear()
    result = run(served, ASK, PUBLIC4, PUBLIC6, OTHER4, network="narrow")
    assert str(result["stdout"]).split("\n")[:3] == ["from a run", "from a run", "OSError"]
    assert world.arrived(PUBLIC4, 8080) and world.arrived(PUBLIC6, 8080)
    assert not world.arrived(OTHER4)


def test_a_result_says_what_was_asked_of_the_network(served: Service) -> None:
    result = run(served, ASK, PUBLIC4, OTHER4, "10.1.2.3", PUBLIC6, network="narrow")
    use = result["network"]
    assert use["sent"] > 200 and use["received"] > 100
    found = {
        (record["kind"], record["verdict"], record["address"], record["port"], record["protocol"])
        for record in use["records"]
    }
    assert found == {
        ("connection", "allowed", PUBLIC4, 8080, "tcp"),
        ("connection", "allowed", PUBLIC6, 8080, "tcp"),
        ("refused", "default", OTHER4, 8080, "tcp"),
        ("refused", "floor", "10.1.2.3", 8080, "tcp"),
    }
    assert "network" not in run(served, ASK, PUBLIC4)


def test_a_run_has_no_network_unless_it_asks(world: World, served: Service) -> None:
    world.packets.clear()
    result = run(served, ASK, PUBLIC4)
    assert result["stdout"] == "OSError\n"
    assert not world.arrived(PUBLIC4)


C_SOURCE = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char answer[100] = "";
    struct sockaddr_in target = {.sin_family = AF_INET, .sin_port = htons(8080)};
    inet_pton(AF_INET, argv[1], &target.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&target, sizeof(target)) == 0 && write(fd, "compiled", 8) == 8)
        puts(read(fd, answer, 99) > 0 ? answer : "silence");
}
"""


def test_a_compiled_program_has_the_network(world: World, served: Service) -> None:
    result = run(served, C_SOURCE, PUBLIC4, language="c", network="narrow")
    assert result["stdout"] == "compiled\n", result


@pytest.mark.parametrize("name", ["unknown", "theirs"])
def test_networks_of_others_do_not_exist(served: Service, name: str) -> None:
    result = run(served, ASK, PUBLIC4, network=name)
    assert (result["http"], result["field"]) == (422, "network")


def test_a_killed_node_leaves_nothing_that_its_successor_does_not_clear(served: Service) -> None:
    before = _devices()
    assert before
    node = served.role("node")
    assert node is not None
    os.kill(node, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while served.role("node") in (None, node) and time.monotonic() < deadline:
        time.sleep(0.05)
    served.wait_ready()
    result = run(served, ASK, PUBLIC4, network="narrow")
    assert result["stdout"] == "from a run\n", result
    assert _devices() and not _devices() & before, "the names come again, the devices do not"
    tables = [name for name in _traces_of_networks() if not name.startswith("sd")]
    assert len(tables) == 1


FLOOD = f"""
import _socket
targets = ["10.1.2.3", "169.254.169.254", "127.0.0.1", "10.213.0.1", "{OTHER4}", "{OTHER6}", "fd99::9"]
senders = [(_socket.socket(10 if ":" in to else 2, 2), (to, 4000)) for to in targets]
while True:
    for sender, target in senders:
        try:
            sender.sendto(b"from the first moment to the last", target)
        except OSError:
            pass
"""
THOUSAND, FEW = 1_000, 60
WITHIN = 30.0
"""Seconds; on a machine that is busy otherwise fewer come and go in it."""


def test_from_the_first_moment_to_the_last_nothing_gets_out_while_a_thousand_come_and_go(
    world: World, served: Service
) -> None:
    """Each sends without a pause from its first instruction on and is killed while it does, once it has
    had the CPU for so long, however busy the machine is. Slots come round, ten times and more."""
    world.packets.clear()
    deadline = time.monotonic() + WITHIN
    with httpx.Client(base_url=served.url, timeout=120) as line:

        def one(_: int) -> dict[str, Any]:
            if time.monotonic() > deadline:
                return {}
            limits = {"cpu_time": 0.02, "wall_time": 60.0}
            body = {"language": "python", "source": FLOOD, "network": "narrow", "limits": limits}
            answer = line.post("/v1/runs", json=body)
            return {"http": answer.status_code, **answer.json()}

        with ThreadPoolExecutor(8) as clients:
            results = [found for found in clients.map(one, range(THOUSAND)) if found]
    assert len(results) > FEW
    assert {result.get("status") for result in results} == {"cpu_time_exceeded"}
    # An interpreter that was not warm spends most of it on its start.
    sent = [result["network"]["sent"] for result in results]
    assert sum(some > 1_000 for some in sent) > len(sent) / 2, "few got so far"
    world.settle()
    out = {packet.target for packet in world.packets if b"from the first" in packet.payload}
    assert not out


def test_a_run_may_ask_for_a_part_of_a_policy(world: World, served: Service) -> None:
    part = {"policy": "narrow", "allow": [{"cidr": PUBLIC4, "ports": [8080]}]}
    world.packets.clear()
    result = run(served, ASK, PUBLIC4, PUBLIC6, network=part)
    assert str(result["stdout"]).split("\n")[0] == "from a run"
    assert not world.arrived(PUBLIC6)
    more = {"policy": "narrow", "allow": [{"cidr": OTHER4, "ports": [8080]}]}
    refused = run(served, ASK, PUBLIC4, network=more)
    assert (refused["http"], refused["field"]) == (422, "network.allow")
