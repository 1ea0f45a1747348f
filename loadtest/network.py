"""What a network costs: hand-out and runs with and without one, and throughput through the firewall.

Everything happens in two network namespaces, one that the node has for itself and one that plays the
rest; nothing leaves the machine. With and without take turns, so that a slow minute hits both alike.
"""

import asyncio
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from pyroute2 import IPRoute

from loadtest import network_runs
from sandboxd.drivers.network.egress import EgressNetwork
from sandboxd.drivers.network.namespaces import close, enter, here, inside
from sandboxd.model.egress import EgressPolicy, EgressRule
from sandboxd.native import new_netns
from sandboxd.settings import NetworkSettings

_NODE, _REST = "198.51.100.1", "198.51.100.2"
_PORT = 5201
_OPEN = EgressPolicy(
    name="bench",
    allow=[EgressRule(cidr="0.0.0.0/0")],
    packet_rate=1_000_000_000,
    total_bytes=1 << 50,
)


def run(rounds: int, seconds: float) -> tuple[list[str], list[str]]:
    """Measure, in a thread without an event loop: the lines of tables, and what answers were wrong."""
    with _namespaces() as (rest, node):
        through = _throughput(rest, node, rounds, seconds)
        took = _hand_out(rounds * 40)
        runs, errors = asyncio.run(network_runs.measure(rounds, seconds))
    rows = [
        (
            "throughput, Gbit/s (iperf3, one flow): bare veth, through the firewall",
            _ratio(*through),
        ),
        ("a warm slot, ms (p50): taken, and put under a policy", _more(*took)),
    ]
    lines = ["| what | without | with a network | |", "|---|---|---|---|"]
    return [*lines, *(f"| {what} | {figures} |" for what, figures in rows), *runs], errors


def _ratio(without: float, with_: float) -> str:
    return f"{without:.1f} | {with_:.1f} | {100 * with_ / without:.0f} %"


def _more(without: float, with_: float) -> str:
    return f"{without:.2f} | {with_:.2f} | +{with_ - without:.2f}"


@contextmanager
def _namespaces() -> Iterator[tuple[int, int]]:
    """The calling thread moves into the node's; given are the rest's and the node's."""
    home, node, rest = here(), new_netns(), new_netns()
    try:
        inside(rest, home, lambda: _join(node))
        enter(node)
        with IPRoute() as link:
            _up(link, f"{_NODE}/30")
            link.route("add", dst="default", gateway=_REST)
        try:
            yield rest, node
        finally:
            enter(home)
    finally:
        close(home, node, rest)


def _join(node: int) -> None:
    with IPRoute() as link:
        link.link("add", ifname="up", kind="veth", peer={"ifname": "up", "net_ns_fd": node})
        _up(link, f"{_REST}/30")


def _up(link: IPRoute, address: str) -> None:
    index = socket.if_nametoindex("up")
    link.link("set", index=index, state="up")
    host, length = address.split("/")
    link.addr("add", index=index, address=host, prefixlen=int(length))


def _throughput(rest: int, node: int, rounds: int, seconds: float) -> tuple[float, float]:
    """Gbit/s of a bare veth, and of a sandbox's slot through the firewall."""
    network = EgressNetwork(f"bench-{os.getpid()}", NetworkSettings(enabled=True, slots=8, warm=1))
    command = ["iperf3", "--server", "--port", str(_PORT)]
    server = inside(rest, node, lambda: subprocess.Popen(command, stdout=subprocess.DEVNULL))
    slot = network.take()
    try:
        network.assign(slot, _OPEN)
        time.sleep(0.3)
        bare, behind = [], []
        for _ in range(rounds):
            bare.append(_flow(seconds))
            behind.append(inside(slot.fd, node, lambda: _flow(seconds)))
        return median(bare), median(behind)
    finally:
        network.give_back(slot)
        network.close()
        server.kill()
        server.wait()


def _flow(seconds: float) -> float:
    command = ["iperf3", "--client", _REST, "--port", str(_PORT), "--json"]
    command += ["--time", str(max(1, round(seconds)))]
    answer = subprocess.run(command, capture_output=True, check=True)
    return float(json.loads(answer.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9


def _hand_out(count: int) -> tuple[float, float]:
    """Milliseconds to take a warm slot, and to put it under a policy besides."""
    settings = NetworkSettings(enabled=True, slots=256, warm=16)
    network = EgressNetwork(f"bench-{os.getpid()}", settings)
    try:
        network.keep(_OPEN)
        taken, assigned = [], []
        for _ in range(count):
            begin = time.perf_counter()
            slot = network.take()
            middle = time.perf_counter()
            network.assign(slot, _OPEN)
            end = time.perf_counter()
            taken.append(middle - begin)
            assigned.append(end - begin)
            network.give_back(slot)
            time.sleep(0.005)
        return 1_000 * median(taken), 1_000 * median(assigned)
    finally:
        network.close()
