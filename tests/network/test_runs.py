"""Networks as clients get them: a whole service in `svc`, runs whose packets are looked for in `inet`."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sandboxd.settings import Settings
from tests.network.world import OTHER4, PUBLIC4, PUBLIC6, World
from tests.service.instance import Service, running

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
NARROW = f"""
name = "narrow"
[[allow]]
cidr = "{PUBLIC4}"
ports = [8080]
[[allow]]
cidr = "{PUBLIC6}"
ports = [8080]
"""


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("policies")
    directory.chmod(0o755)
    directory.parent.chmod(0o755)
    shutil.copytree(Settings().policy_path, directory / "policies")
    egress = directory / "policies" / "egress"
    (egress / "narrow.toml").write_text(NARROW)
    (egress / "theirs.toml").write_text('name = "theirs"\ntenants = ["somebody"]\n')
    return directory / "policies"


@pytest.fixture(scope="module")
def served(world: World, policies: Path) -> Iterator[Service]:
    with running("network.enabled=true", f"policies={policies}") as service:
        yield service


def run(
    service: Service, *targets: str, language: str = "python", **rest: object
) -> dict[str, object]:
    body = {"language": language, "source": ASK, "args": list(targets), **rest}
    answer = httpx.post(f"{service.url}/v1/runs", json=body, timeout=30)
    return {"http": answer.status_code, **answer.json()}


def test_a_run_reaches_what_its_network_names_and_nothing_else(
    world: World, served: Service
) -> None:
    world.packets.clear()
    result = run(served, PUBLIC4, PUBLIC6, OTHER4, network="narrow")
    assert str(result["stdout"]).split("\n")[:3] == ["from a run", "from a run", "OSError"]
    assert world.arrived(PUBLIC4, 8080) and world.arrived(PUBLIC6, 8080)
    assert not world.arrived(OTHER4)


def test_a_run_has_no_network_unless_it_asks(world: World, served: Service) -> None:
    world.packets.clear()
    result = run(served, PUBLIC4)
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
    result = run(served, PUBLIC4, language="c", source=C_SOURCE, network="narrow")
    assert result["stdout"] == "compiled\n", result


@pytest.mark.parametrize("name", ["unknown", "theirs"])
def test_networks_of_others_do_not_exist(served: Service, name: str) -> None:
    result = run(served, PUBLIC4, network=name)
    assert (result["http"], result["field"]) == (422, "network")
