"""`kill -9` of the node or of its guard: networks of sandboxes that live go on, and hold all the time."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pyroute2 import IPSet
from sandboxd_client import Client, Sandbox, SandboxdError

from sandboxd.drivers.network import flows
from sandboxd.drivers.network.groups import Groups
from sandboxd.errors import DriverFault
from sandboxd.model.egress import EgressPolicy, EgressRule
from tests.network.serving import serving
from tests.network.test_sessions import LISTEN, speak
from tests.network.world import OTHER4, PUBLIC4, World
from tests.patience import PATIENCE
from tests.service import host
from tests.service.instance import Service

pytestmark = [pytest.mark.root, pytest.mark.service]

_WAIT = 60.0 * PATIENCE
_PORT = 8500
_POLICY = f"""
upload = 10_000_000
[[allow]]
domain = "one.example.org"
[[allow]]
cidr = "{PUBLIC4}"
ports = [8080, {_PORT}]
"""
_NARROW = {"policy": "some", "allow": [{"cidr": PUBLIC4, "ports": [8080]}]}
_TALK = f"""
import socket, threading, time
line = socket.create_connection(("{PUBLIC4}", {_PORT}), 5)
line.settimeout(None)

def forbidden():
    while True:
        try:
            socket.create_connection(("{OTHER4}", 8080), 0.2).close()
        except OSError:
            time.sleep(0.02)

def echo():
    while data := line.recv(100):
        line.sendall(b"heard " + data)

for work in (forbidden, echo):
    threading.Thread(target=work, daemon=True).start()
while True:
    line.sendall(b"tick\\n")
    time.sleep(0.05)
"""
_NAMED = f"""
import socket, time
deadline = time.monotonic() + {_WAIT}
while True:
    try:
        with socket.create_connection(("one.example.org", 80), 5) as line:
            line.sendall(b"GET / HTTP/1.1\\r\\nHost: one.example.org\\r\\n\\r\\n")
            print(line.recv(100).decode().split()[0])
        break
    except (OSError, IndexError):
        if time.monotonic() > deadline:
            raise
        time.sleep(0.1)
"""
"""Patient: a guard that has just been started may take its time."""


def behind(*firewalls: str) -> pytest.MarkDecorator:
    """A test of services with these, one after the other."""
    return pytest.mark.parametrize("service", firewalls, indirect=True)


@pytest.fixture(scope="module")
def service(world: World, request: pytest.FixtureRequest) -> Iterator[Service]:
    policies = {"some": _POLICY, "changing": _POLICY}
    with serving(policies, f"network.firewall={request.param}") as service:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


class Flow:
    """A connection that a program in a sandbox keeps open and speaks on, as seen from its other end."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        line.settimeout(_WAIT)

    def ticks(self) -> None:
        """Raises OSError, TimeoutError unless more is heard from now on."""
        self._drain()
        assert b"tick" in self._line.recv(1_000)

    def answers(self, word: bytes) -> None:
        """Both directions pass."""
        self._line.sendall(word)
        heard, deadline = b"", time.monotonic() + _WAIT
        while b"heard " + word not in heard:
            assert time.monotonic() < deadline
            heard += self._line.recv(1_000)

    def _drain(self) -> None:
        self._line.setblocking(False)
        try:
            while self._line.recv(65_536):
                pass
        except BlockingIOError:
            pass
        finally:
            self._line.settimeout(_WAIT)


@contextmanager
def talking(world: World, sandbox: Sandbox) -> Iterator[Flow]:
    server = world.inside(world.inet, lambda: socket.create_server((PUBLIC4, _PORT)))
    with server:
        server.settimeout(_WAIT)
        sandbox.process.start(["python3", "-c", _TALK])
        line, _ = server.accept()
        with line:
            yield Flow(line)


def spoken(world: World) -> list[bytes]:
    """What `inet` was told on the connection. (A reset of what the node knows no more is the node's.)"""
    world.settle()
    segments = [packet.payload for packet in world.packets if packet.port == _PORT]
    return [data for one in segments if (data := one[(one[12] >> 4) * 4 :])]


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + _WAIT
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kill_node(service: Service, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Dead at once, and another one there."""
    pid = service.role("node")
    assert pid is not None
    before = starts(service)
    os.kill(pid, signal.SIGKILL)
    meanwhile()
    until(lambda: starts(service) > before)


def starts(service: Service) -> int:
    """How often a node has begun to work."""
    return service.log.read_text().count("node: ready")


def again(sandbox: Sandbox, *command: str) -> str:
    """What the command prints, once the sandbox answers."""
    deadline = time.monotonic() + _WAIT
    while True:
        try:
            done = sandbox.run(list(command), timeout=2 * _WAIT)
            assert done.exit_code == 0, done
            return done.stdout
        except SandboxdError as error:
            assert error.code in ("unavailable", "node_lost", "connection_failed"), error.code
            assert time.monotonic() < deadline, error
            time.sleep(0.1)


def device_of(address: str) -> int:
    """Index of the link in `svc` that leads to an address; 0: there is none."""
    route = subprocess.run(
        ["ip", "-4", "route", "show", address], capture_output=True, text=True, check=True
    ).stdout.split()
    return socket.if_nametoindex(route[route.index("dev") + 1]) if route else 0


def address_of(sandbox: Sandbox) -> str:
    return again(sandbox, "hostname", "-I").split()[0]


def rules() -> str:
    """All that stands in the kernel, and what was counted, a line for each address of iptables' sets."""
    commands = (["nft", "list", "ruleset"], ["iptables-legacy-save"], ["ip6tables-legacy-save"])
    listed = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for command in commands
    ]
    with IPSet() as sets:
        for counted in sets.list():
            entries = counted.get_attr("IPSET_ATTR_ADT")
            for entry in entries.get_attrs("IPSET_ATTR_DATA") if entries else ():
                address = entry.get_attr("IPSET_ATTR_IP_FROM").get_attr("IPSET_ATTR_IPADDR_IPV4")
                listed.append(f"{address} quota used {entry.get_attr('IPSET_ATTR_BYTES')}\n")
    return "".join(listed)


def used_by(address: str) -> int:
    """Bytes that count against its policy's total."""
    found = re.search(rf"\b{re.escape(address)} quota [^,}}\n]*used (\d+)", rules())
    assert found is not None
    return int(found[1])


def nothing_is_left(device: int, address: str) -> bool:
    return (
        device not in {index for index, _ in socket.if_nameindex()}
        and not re.search(rf"\b{re.escape(address)}\b", rules())
        and address not in {flow.source for flow in flows.known()}
    )


@behind("iptables", "nftables")
def test_what_is_open_goes_on_while_rules_hold_and_the_next_node_has_it(
    world: World, service: Service, client: Client
) -> None:
    world.names = {("one.example.org", "A"): [PUBLIC4]}
    group = {"policy": "none", "group": "red"}
    with (
        Sandbox.create(client=client, network={**group, "hostname": "db"}) as db,
        Sandbox.create(client=client, network=group) as web,
        Sandbox.create(client=client, network="some") as sandbox,
        talking(world, sandbox) as flow,
    ):
        db.process.start(["python3", "-c", LISTEN])
        db.ports.wait(7000, _WAIT)
        address = address_of(sandbox)
        device = device_of(address)
        assert device
        assert again(sandbox, "python3", "-c", _NAMED) == "GET\n"
        used = used_by(address)
        world.packets.clear()
        for _ in range(2):
            kill_node(service, lambda: [flow.answers(b"down"), flow.ticks()])
            flow.answers(b"up")
            assert address_of(sandbox) == address
        assert used_by(address) > used, "what it has sent is not forgotten"
        assert device_of(address) == device
        with Sandbox.create(client=client, network="some") as fresh:
            assert address_of(fresh) != address
        assert not world.arrived(OTHER4), "not even while there was no node"
        # Names are answered again, and written down.
        names = len([r for r in sandbox.network_records(limit=1000) if r.kind == "name"])
        assert again(sandbox, "python3", "-c", _NAMED) == "GET\n"
        until(
            lambda: (
                len([r for r in sandbox.network_records(limit=1000) if r.kind == "name"]) > names
            )
        )
        # So are those of one group, who still see one another and nobody else.
        assert speak(web, "db.internal|7000", f"{address}|7000") == ["HELLO", "no"]
        # Another policy holds at once, and is what the node after that finds.
        flow.answers(b"still")
        sandbox.update(network=_NARROW)
        world.settle()
        world.packets.clear()
        kill_node(service)
        assert not spoken(world)
        sandbox.update(network="some")
    until(lambda: nothing_is_left(device, address))


@behind("nftables")
def test_who_dies_with_the_node_leaves_nothing(
    world: World, service: Service, client: Client
) -> None:
    sandbox = Sandbox.create(client=client, network="some")
    with talking(world, sandbox) as flow:
        flow.answers(b"here")
        address = address_of(sandbox)
        device = device_of(address)
        assert device and address in {flow.source for flow in flows.known()}

        def all_end() -> None:
            for pid in service.sandbox_processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

        kill_node(service, all_end)
        until(lambda: nothing_is_left(device, address))
        until(lambda: sandbox.refresh().state == "ended")


@behind("nftables")
def test_what_the_files_say_by_then_holds_for_who_has_outlived_its_node(
    world: World, service: Service, client: Client
) -> None:
    file = next(
        Path(word.removeprefix("policies=")) / "egress" / "changing.toml"
        for word in service.argv
        if word.startswith("policies=")
    )
    former = file.read_text()
    with (
        Sandbox.create(client=client, network="changing") as sandbox,
        talking(world, sandbox) as flow,
    ):
        flow.answers(b"here")
        kill_node(service, lambda: file.write_text(former.replace(str(_PORT), "8080")))
        world.settle()
        world.packets.clear()
        assert again(sandbox, "true") == ""
        assert not spoken(world)


@behind("nftables")
def test_a_guard_that_dies_alone_is_replaced_and_what_has_no_name_goes_on(
    world: World, service: Service, client: Client
) -> None:
    world.names = {("one.example.org", "A"): [PUBLIC4]}
    with Sandbox.create(client=client, network="some") as sandbox, talking(world, sandbox) as flow:
        node = service.role("node")
        assert node is not None
        guard = next(pid for pid in host.descendants(node) if "network" in (host.argv(pid) or []))
        os.kill(guard, signal.SIGKILL)
        flow.answers(b"without")
        assert again(sandbox, "python3", "-c", _NAMED) == "GET\n"
        flow.ticks()


def _policy(cidr: str) -> EgressPolicy:
    return EgressPolicy(name="some", allow=[EgressRule(cidr=cidr)])


def test_groups_and_marks_are_those_of_before_and_new_ones_come_after() -> None:
    first, second = _policy("192.0.2.1/32"), _policy("192.0.2.2/32")
    before = Groups()
    group, chains = before.hold(first)
    after = Groups()
    assert after.resume(group, before.mark(group), first, "") == chains
    assert after.resume(group, before.mark(group), first, "") == chains, "two of one policy"
    assert after.hold(first) == (group, None)
    other, _ = after.hold(second)
    assert other != group and after.mark(other) > before.mark(group)
    assert [after.release(group) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(
    ("group", "mark", "cidr", "network"),
    [(5, 8, "192.0.2.1/32", ""), (5, 7, "192.0.2.2/32", ""), (6, 7, "192.0.2.1/32", ""),
     (5, 7, "192.0.2.1/32", "red"), (0, 9, "192.0.2.3/32", "")],
)  # fmt: skip
def test_a_group_that_is_told_of_in_two_ways_is_one_of_them(
    group: int, mark: int, cidr: str, network: str
) -> None:
    groups = Groups()
    groups.resume(5, 7, _policy("192.0.2.1/32"), "")
    with pytest.raises(DriverFault):
        groups.resume(group, mark, _policy(cidr), network)
