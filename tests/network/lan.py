"""A network between hosts: a switch, `svc` on it by the device `lan0`, and a router that is also all the
rest of the world. More hosts can be plugged in."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pyroute2 import IPRoute

from sandboxd.drivers.network.namespaces import close
from sandboxd.native import new_netns
from sandboxd.settings import MacvlanSettings
from tests.network.world import (
    FLOOR4,
    FLOOR6,
    OTHER4,
    OTHER6,
    PUBLIC4,
    PUBLIC6,
    World,
    people,
)

ROUTER4, ROUTER6 = "192.168.77.1", "fd77::1"
OWN4, OWN6 = "192.168.77.2", "fd77::2"
"""Of `svc`."""
_NODAD = 2


def on_lan(offset: int = 64, **rest: object) -> MacvlanSettings:
    """Addresses for sandboxes from there on, sixteen of them."""
    usual = {
        "interface": "lan0",
        "tenants": ["*"],
        "ipv4": f"192.168.77.{offset}/28",
        "gateway4": f"{ROUTER4}/24",
        "ipv6": f"fd77::{offset:x}0/124",
        "gateway6": f"{ROUTER6}/64",
    }
    return MacvlanSettings(**{**usual, **rest})  # type: ignore[arg-type]


class Lan:
    def __init__(self, world: World, switch: int, router: int) -> None:
        self._world, self._switch = world, switch
        self.beyond = World(world.home, world.svc, router, (ROUTER4, ROUTER6))
        """What the router sees, and answers for."""
        self._plugs = 0

    def plug(self, host: int, device: str, *addresses: str) -> None:
        """Give a host a device on the switch, with these addresses."""
        self._plugs += 1
        port = f"p{self._plugs}"

        def connect() -> None:
            with IPRoute() as link:
                peer = {"ifname": device, "net_ns_fd": host}
                link.link("add", ifname=port, kind="veth", peer=peer)
                master = socket.if_nametoindex("br0")
                link.link("set", index=socket.if_nametoindex(port), state="up", master=master)

        self._world.inside(self._switch, connect)
        self._world.inside(host, lambda: _bring_up(device, addresses))


@contextmanager
def making(world: World) -> Iterator[Lan]:
    switch, router = new_netns(), new_netns()
    with ExitStack() as made:
        made.callback(close, switch, router)
        lan = Lan(world, switch, router)
        world.inside(switch, _make_bridge)
        lan.plug(router, "up", f"{ROUTER4}/24", f"{ROUTER6}/64")
        elsewhere = (PUBLIC4, OTHER4, PUBLIC6, OTHER6, *FLOOR4, *FLOOR6)
        world.inside(router, lambda: _bring_up("lo", [_host(address) for address in elsewhere]))
        lan.plug(world.svc, "lan0", f"{OWN4}/24", f"{OWN6}/64")
        made.callback(world.inside, world.svc, lambda: unplug("lan0"))
        stop = threading.Event()
        threads = world.inside(router, lambda: people(lan.beyond, stop))
        made.callback(lambda: [thread.join() for thread in threads])
        made.callback(stop.set)
        yield lan


def _host(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


def _make_bridge() -> None:
    with IPRoute() as link:
        link.link("add", ifname="br0", kind="bridge")
        link.link("set", index=socket.if_nametoindex("br0"), state="up")


def _bring_up(device: str, addresses: tuple[str, ...] | list[str]) -> None:
    with IPRoute() as link:
        index = socket.if_nametoindex(device)
        link.link("set", index=index, state="up")
        for text in addresses:
            address, _, length = text.partition("/")
            flags = _NODAD if ":" in address else 0
            link.addr("add", index=index, address=address, prefixlen=int(length), flags=flags)


def unplug(device: str) -> None:
    with IPRoute() as link:
        link.link("del", index=socket.if_nametoindex(device))
