"""A real service whose sandboxes are on an interface's network, as far as the settings name who may."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sandboxd_client import Client, Sandbox

from tests.network.lan import OWN4, ROUTER4, Lan, making
from tests.network.serving import printed, run, serving
from tests.network.test_sessions import LISTEN, speak
from tests.network.test_survival import again, kill_node
from tests.network.world import OTHER4, OTHER6, PUBLIC4, PUBLIC6, World
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
    policies["both"] = policies["lab"] + '[[allow]]\ndomain = "one.example.org"\n'
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


_NAMED = """
import json, socket
found = []
for family in (socket.AF_INET, socket.AF_INET6):
    for name, port in (("one", 80), ("one", 8080), ("two", 80)):
        try:
            (*kind, _, address), *_ = socket.getaddrinfo(
                f"{name}.example.org", port, family, socket.SOCK_STREAM)
            with socket.socket(*kind) as line:
                line.settimeout(5)
                line.connect(address)
                line.sendall(b"GET / HTTP/1.1\\r\\nHost: one.example.org\\r\\n\\r\\n")
                found.append(line.recv(100).decode().split()[0])
        except OSError:
            found.append(None)
print(json.dumps(found))
"""


def test_what_is_allowed_by_its_name_goes_through_the_node_and_the_rest_does_not(
    world: World, lan: Lan, service: Service
) -> None:
    addresses = {"A": OTHER4, "AAAA": OTHER6}
    world.names = {
        (f"{name}.example.org", kind): [address]
        for name in ("one", "two")
        for kind, address in addresses.items()
    }
    for each in (world, lan.beyond):
        each.settle()
        each.packets.clear()
    result = run(service, _NAMED, network="both")
    assert json.loads(result["stdout"]) == ["GET", None, None] * 2
    for there in addresses.values():
        assert world.arrived(there, 80) and not world.arrived(there, 8080)
        assert not lan.beyond.arrived(there)
    carried = [
        each["verdict"]
        for each in result["network"]["records"]
        if each["kind"] == "connection" and each.get("name") == "one.example.org"
    ]
    assert carried == ["allowed"] * 2
    assert printed(service, _ASK, PUBLIC4, PUBLIC6, *addresses.values(), network="both") == {
        PUBLIC4: "hello", PUBLIC6: "hello", OTHER4: None, OTHER6: None,
    }  # fmt: skip
    assert lan.beyond.arrived(PUBLIC4, 8080) and lan.beyond.arrived(PUBLIC6, 8080)
    assert not world.arrived(PUBLIC4) and not world.arrived(PUBLIC6)


def test_those_of_one_group_see_one_another_besides(
    world: World, lan: Lan, service: Service
) -> None:
    with ExitStack() as made:
        client = made.enter_context(Client(service.url))

        def member(**network: str) -> Sandbox:
            asked = {"policy": "lab", **network}
            return made.enter_context(Sandbox.create(client=client, network=asked))

        db, web = member(group="red", hostname="db"), member(group="red")
        alone = member(group="blue")
        db.process.start(["python3", "-c", LISTEN])
        db.ports.wait(7000, 20 * PATIENCE)
        found = web.run(
            ["python3", "-c", "import socket; print(socket.gethostbyname('db.internal'))"]
        )
        address = found.stdout.strip()
        assert speak(web, "db.internal|7000", f"{address}|7000") == ["HELLO", "HELLO"]
        assert speak(alone, "db.internal|7000", f"{address}|7000") == ["no", "no"]
        world.packets.clear()
        there = web.run(["python3", "-c", _ASK, PUBLIC4, OTHER4], timeout=30)
        assert json.loads(there.stdout) == {PUBLIC4: "hello", OTHER4: None}
        assert not world.arrived(PUBLIC4) and not world.arrived(OTHER4)
        web.update(network="lab")
        assert speak(web, f"{address}|7000") == ["no"]
        there = web.run(["python3", "-c", _ASK, PUBLIC4], timeout=30)
        assert json.loads(there.stdout) == {PUBLIC4: "hello"}


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
    for target in ("{PUBLIC4}", "{OTHER4}"):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as line:
            line.setblocking(False)
            line.connect_ex((target, 8080))
    time.sleep(0.05)
"""
_OWN = [
    "python3",
    "-c",
    f"""
import socket
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
line.connect(("{PUBLIC4}", 9))
print(line.getsockname()[0])
""",
]


def test_a_killed_nodes_sandboxes_stay_on_it_and_their_rules_hold_all_the_time(
    world: World, lan: Lan, service: Service
) -> None:
    world.names = {("one.example.org", "A"): [OTHER4]}

    def goes_on() -> None:
        lan.beyond.settle()
        lan.beyond.packets.clear()
        _until(lambda: lan.beyond.arrived(PUBLIC4, 8080))
        assert not lan.beyond.arrived(OTHER4)

    def silent() -> bool:
        lan.beyond.settle()
        lan.beyond.packets.clear()
        time.sleep(0.3)
        return not lan.beyond.arrived(PUBLIC4)

    with Client(service.url) as client:
        with Sandbox.create(client=client, network="both") as sandbox:
            sandbox.process.start(["python3", "-c", _ON_AND_ON])
            address = again(sandbox, *_OWN)
            kill_node(service, goes_on)
            assert again(sandbox, *_OWN) == address
            goes_on()
            with Sandbox.create(client=client, network="lab") as fresh:
                assert again(fresh, *_OWN) != address
            asked = again(sandbox, "python3", "-c", _ASK, PUBLIC4, PUBLIC6, OTHER4)
            assert json.loads(asked) == {PUBLIC4: "hello", PUBLIC6: "hello", OTHER4: None}
            _until(lambda: json.loads(again(sandbox, "python3", "-c", _NAMED))[:2] == ["GET", None])
            wanted = {("connection", PUBLIC6), ("refused", OTHER4)}
            _until(
                lambda: (
                    wanted
                    <= {(each.kind, each.address) for each in sandbox.network_records(limit=1000)}
                )
            )
            sandbox.update(network="none")
            assert silent()
            sandbox.update(network="lab")
            goes_on()
        _until(silent)


def _until(there: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20 * PATIENCE
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.05)
