"""Which sandbox is under which policy, as the node has told, and how to ask the node: for that, or for an
opening.

Most sandboxes that might ask for names never do, so the node is asked who it is when the first packet of
one comes. It tells by itself of those whom others may ask for by name, and of every change.
"""

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
    Nobody,
    Open,
    Opened,
    Release,
    Seen,
    Target,
    ToNode,
    Unlearn,
    Who,
)

_PATIENCE = 2.0
_WAITING_MAX = 100
"""Packets of one address that may wait for the node's word on it: as many as may ask at once."""


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


class _Question(Struct, eq=False):
    """What the node is asked about one address."""

    answered: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0


class Registry:
    def __init__(self, send: Callable[[ToNode], None]) -> None:
        self._send = send
        self._policies: dict[int, Names] = {}
        self._clients: dict[str, Client] = {}
        self._mates: dict[int, dict[str, tuple[str, str]]] = {}
        self._asked: dict[int, asyncio.Future[bool]] = {}
        self._questions: dict[str, _Question] = {}
        """By address."""
        self._ids = itertools.count(1)

    async def client(self, address: str) -> Client | None:
        """The sandbox that has this address now."""
        address = str(ipaddress.ip_address(address))
        if address not in self._clients:
            await self._ask(address)
        return self._clients.get(address)

    async def _ask(self, address: str) -> None:
        """Until the node has said who has the address, or for some time."""
        question = self._questions.get(address)
        if question is None:
            question = self._questions[address] = _Question()
            self._send(Who(address))
        if question.waiting >= _WAITING_MAX:
            return
        question.waiting += 1
        try:
            async with asyncio.timeout(_PATIENCE):
                await question.answered.wait()
        except TimeoutError:
            if self._questions.get(address) is question:
                del self._questions[address]
        finally:
            question.waiting -= 1

    def _answered(self, address: str) -> None:
        question = self._questions.pop(address, None)
        if question is not None:
            question.answered.set()

    def nobody(self, message: Nobody) -> None:
        self._answered(message.address)

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
        known = self._clients.get(message.addresses[0])
        if known is not None and known.assignment == message.id:
            return  # asked for by both of its addresses
        self._drop(message.addresses)
        client = Client(
            message.id,
            message.addresses,
            self._policies[message.group],
            message.group,
            message.member,
        )
        for address in message.addresses:
            self._clients[address] = client
            self._answered(address)

    def release(self, message: Release) -> None:
        self._drop(message.addresses)

    def _drop(self, addresses: tuple[str, str]) -> None:
        for address in addresses:
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
