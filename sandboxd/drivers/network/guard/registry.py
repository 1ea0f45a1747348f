"""Which sandbox is under which policy, as the node has told, and how to ask the node for an opening."""

import asyncio
import ipaddress
import itertools
from collections.abc import Callable, Iterable

from msgspec import Struct, field

from sandboxd.drivers.network.guard.messages import (
    Assign,
    Learn,
    Mates,
    Names,
    Open,
    Opened,
    Release,
    Seen,
    Target,
    ToNode,
    Unlearn,
)

_PATIENCE = 2.0


class Budget(Struct):
    """A bucket of tokens; times are seconds of one clock."""

    rate: float
    burst: float
    left: float = 0.0
    at: float = 0.0

    def take(self, now: float) -> bool:
        self.left = min(self.burst, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Client(Struct):
    """One sandbox."""

    assignment: int
    addresses: tuple[str, str]
    names: Names
    group: int
    member: str
    questions: Budget = field(default_factory=lambda: Budget(50.0, 100.0, 100.0))
    connections: set["asyncio.Task[None]"] = field(default_factory=set)
    """Those through the proxy."""


class Registry:
    def __init__(self, send: Callable[[ToNode], None]) -> None:
        self._send = send
        self._policies: dict[int, Names] = {}
        self._clients: dict[str, Client] = {}
        self._mates: dict[int, dict[str, tuple[str, str]]] = {}
        self._asked: dict[int, asyncio.Future[bool]] = {}
        self._ids = itertools.count(1)

    def client(self, address: str) -> Client | None:
        """The sandbox that has this address now."""
        return self._clients.get(str(ipaddress.ip_address(address)))

    def member(self, asking: Client, name: str) -> tuple[str, str] | None:
        """The addresses of the sandbox of the same group network that is called so, here or elsewhere."""
        if not asking.member:
            return None
        for client in self._clients.values():
            if client.group == asking.group and client.member == name:
                return client.addresses
        return self._mates.get(asking.group, {}).get(name)

    def meet(self, message: Mates) -> None:
        self._mates[message.group] = message.names

    def learn(self, message: Learn) -> None:
        self._policies[message.group] = message.names

    def unlearn(self, message: Unlearn) -> None:
        self._policies.pop(message.group, None)

    def assign(self, message: Assign) -> None:
        self.release(Release(message.addresses))
        client = Client(
            message.id,
            message.addresses,
            self._policies[message.group],
            message.group,
            message.member,
        )
        for address in message.addresses:
            self._clients[address] = client

    def release(self, message: Release) -> None:
        for address in message.addresses:
            client = self._clients.pop(address, None)
            if client is not None:
                for connection in client.connections:
                    connection.cancel()

    async def open(self, sandbox: str, targets: Iterable[Target]) -> bool:
        """Have the node let the sandbox through to these; False if it would not."""
        number = next(self._ids)
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        try:
            self._send(Open(number, sandbox, tuple(targets)))
            async with asyncio.timeout(_PATIENCE):
                return await future
        except TimeoutError:
            return False
        finally:
            del self._asked[number]

    def opened(self, message: Opened) -> None:
        future = self._asked.get(message.id)
        if future is not None and not future.done():
            future.set_result(message.done)

    def seen(self, record: Seen) -> None:
        self._send(record)
