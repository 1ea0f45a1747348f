"""A real service whose sandboxes are on an interface's network, as far as the settings name who may."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sandboxd_client import Client, Overload, RequestError, Sandbox

from tests.network.lan import OWN4, ROUTER4, Lan, making
from tests.network.serving import printed, run, serving
from tests.network.world import OTHER4, PUBLIC4, PUBLIC6, World
from tests.patience import PATIENCE
from tests.service.instance import Service

pytestmark = [pytest.mark.root, pytest.mark.service]

_LANS = """
[network.macvlan.{name}]
interface = "lan0"
tenants = ["{tenant}"]
ipv4 = "192.168.77.{offset}/28"
gateway4 = "192.168.77.1/24"
ipv6 = "fd77::{offset}0/124"
gateway6 = "fd77::1/64"
"""
_ALLOW = f"""
[[allow]]
cidr = "{PUBLIC4}"
[[allow]]
cidr = "{PUBLIC6}"
[[allow]]
cidr = "192.168.77.0/24"
"""
_ASK = """
import json, socket, sys
found = {}
for target in sys.argv[1:]:
    try:
        with socket.create_connection((target, 8080), 3) as line:
            line.sendall(b"hello")
            found[target] = line.recv(100).decode()
    except OSError:
        found[target] = None
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def lan(world: World) -> Iterator[Lan]:
    with making(world) as made:
        yield made


# What stands on the interface needs nftables, the node's own rules need not.
@pytest.fixture(scope="module")
def service(lan: Lan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    file: Path = tmp_path_factory.mktemp("macvlan") / "sandboxd.toml"
    file.write_text(
        _LANS.format(name="lab", tenant="default", offset=64)
        + _LANS.format(name="vault", tenant="another", offset=96)
    )
    policies = {name: f'interface = "{name}"\n{_ALLOW}' for name in ("lab", "vault")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDBOXD_CONFIG", str(file))
        with serving({**policies, "none-of-it": ""}, "network.firewall=iptables") as service:
            yield service


def test_a_run_is_on_the_network_and_its_result_says_what_it_did(
    world: World, lan: Lan, service: Service
) -> None:
    world.packets.clear()
    result = run(service, _ASK, PUBLIC4, PUBLIC6, OTHER4, ROUTER4, OWN4, network="lab")
    assert json.loads(result["stdout"]) == {
        PUBLIC4: "hello", PUBLIC6: "hello", OTHER4: None, ROUTER4: None, OWN4: None,
    }  # fmt: skip
    assert lan.beyond.arrived(PUBLIC4, 8080) and lan.beyond.arrived(PUBLIC6, 8080)
    sources = {packet.source for packet in lan.beyond.packets if packet.port == 8080}
    assert all(source.startswith(("192.168.77.", "fd77::")) for source in sources), sources
    assert not world.arrived(PUBLIC4), "it went by way of the node"
    use = result["network"]
    assert use["sent"] > 200 and use["received"] > 100
    assert {(each["kind"], each["verdict"], each["address"]) for each in use["records"]} >= {
        ("connection", "allowed", PUBLIC4),
        ("connection", "allowed", PUBLIC6),
        ("refused", "default", OTHER4),
        ("refused", "floor", ROUTER4),
        ("refused", "floor", OWN4),
    }


def test_nobody_else_is_on_it(service: Service) -> None:
    """The policy says nothing of tenants; the settings name another one."""
    refused = run(service, "", network="vault")
    assert refused["http"] == 422 and "vault" in refused["detail"]


def test_a_sandbox_leaves_it_while_it_lives_and_comes_back(lan: Lan, service: Service) -> None:
    with Client(service.url) as client, Sandbox.create(client=client, network="lab") as sandbox:

        def reached() -> object:
            done = sandbox.run(["python3", "-c", _ASK, PUBLIC4, PUBLIC6], timeout=30)
            return json.loads(done.stdout)

        everywhere = {PUBLIC4: "hello", PUBLIC6: "hello"}
        nowhere = dict.fromkeys(everywhere)
        assert reached() == everywhere
        for network in ("none", "none-of-it"):
            sandbox.update(network=network)
            assert reached() == nowhere
        sandbox.update(network="lab")
        assert reached() == everywhere
        # The refusals are those of the node's firewall, on the link that was left to it.
        wanted = {("ended", PUBLIC4), ("ended", PUBLIC6), ("refused", PUBLIC4)}
        _until(lambda: wanted <= {(each.kind, each.address) for each in sandbox.network_records()})


_LOOK = r"""
import json, os, socket, struct
def told(kind, flags, body):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as line:
        line.bind((0, 0))
        line.send(struct.pack("=IHHII", 16 + len(body), kind, 5 | flags, 1, 0) + body)
        size, kind, _, _, _, code = struct.unpack_from("=IHHIIi", line.recv(4096))
        return code if kind == 2 else 0
def made(*kind):
    try:
        socket.socket(*kind).close()
        return 0
    except OSError as error:
        return -error.errno
index = socket.if_nametoindex("eth1")
found = {
    "packets": made(socket.AF_PACKET, socket.SOCK_RAW, 0x300),
    "rules": made(socket.AF_NETLINK, socket.SOCK_RAW, 12),
    "link address": told(16, 0, struct.pack("=BBHiII", 0, 0, 0, index, 0, 0) + struct.pack(
        "=HH6sxx", 10, 1, b"\2\0\0\0\0\1")),
    "device": told(17, 0, struct.pack("=BBHiII", 0, 0, 0, index, 0, 0)),
    "address": told(20, 0x600, struct.pack("=BBBBI", 2, 24, 0, 0, index) + struct.pack(
        "=HH4s", 8, 2, socket.inet_aton("192.168.77.9"))),
}
print(json.dumps(found))
"""


def test_nothing_inside_changes_the_device_or_its_rules(service: Service) -> None:
    found = printed(service, _LOOK, network="lab")
    assert found and all(code < 0 for code in found.values()), found


_ON_AND_ON = f"""
import socket, time
while True:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as line:
        line.setblocking(False)
        line.connect_ex(("{PUBLIC4}", 8080))
    time.sleep(0.01)
"""


def test_a_killed_nodes_sandboxes_are_gone_from_it(lan: Lan, service: Service) -> None:
    """They are not taken over; the next node hands their addresses out again."""
    node = service.role("node")
    assert node is not None
    with Client(service.url) as client:
        sandbox = Sandbox.create(client=client, network="lab")
        sandbox.process.start(["python3", "-c", _ON_AND_ON])
        _until(lambda: lan.beyond.arrived(PUBLIC4, 8080))
        os.kill(node, signal.SIGKILL)
        _until(lambda: service.role("node") not in (None, node))
        _until(lambda: _ended(sandbox))
        lan.beyond.settle()
        lan.beyond.packets.clear()
        time.sleep(0.1)
        assert not lan.beyond.arrived(PUBLIC4)
    assert printed(service, _ASK, PUBLIC4, network="lab") == {PUBLIC4: "hello"}


def _ended(sandbox: Sandbox) -> bool:
    """Said by the next node: until then nobody knows."""
    try:
        sandbox.run(["true"])
    except Overload:
        return False
    except RequestError as error:
        return error.code in ("sandbox_ended", "not_found")
    return False


def _until(there: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20 * PATIENCE
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.05)
