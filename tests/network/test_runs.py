"""Networks as clients get them: a whole service in `svc`, runs whose packets are looked for in `inet`."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.network.serving import run, serving
from tests.network.world import OTHER4, PUBLIC4, PUBLIC6, World
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
    with serving(EGRESS) as service:
        yield service
    assert not _traces_of_networks()


def _traces_of_networks() -> list[str]:
    """Devices and tables of sandboxes' networks that are in `svc`."""
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
    devices = [name for _, name in socket.if_nameindex() if name.startswith("sd")]
    return devices + [line for line in tables.stdout.splitlines() if "sandboxd" in line]


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
    before = _traces_of_networks()
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
    devices = [name for name in _traces_of_networks() if name.startswith("sd")]
    assert len(devices) <= len(before) + 4
    assert len(_traces_of_networks()) - len(devices) == 1
