"""The guard as the node has it: a child that is started again when it dies, and told again what holds.

What it asks for is taken as asked by a stranger: an opening is made only for a sandbox whose policy
names that port for some domain, and the driver holds the address against the floor.

It is told of a sandbox when it asks, which is when the first packet has come: most never send one.
"""

import asyncio
import ipaddress
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack

import msgspec

from sandboxd.child import Child, spawn
from sandboxd.drivers.network.egress import EgressNetwork
from sandboxd.drivers.network.firewall import PROXY_PORT, Opening
from sandboxd.drivers.network.guard.messages import (
    Assign,
    Attached,
    Done,
    Hello,
    Learn,
    Mates,
    NameRule,
    Names,
    Nobody,
    Open,
    Opened,
    Seen,
    ToGuard,
    Who,
    frame,
    read,
    to_node,
)
from sandboxd.drivers.network.slots import EgressSlot
from sandboxd.errors import DriverFault
from sandboxd.model.egress import EgressPolicy
from sandboxd.node.network_boundary import Boundary
from sandboxd.node.network_wards import Ward, Wards
from sandboxd.settings import Settings

log = logging.getLogger(__name__)

_PATIENCE = 5.0
_PAUSE, _PAUSE_MAX = 0.1, 5.0
_PORTS = (80, 443)


class Guard:
    def __init__(
        self, settings: Settings, network: EgressNetwork, boundary: Boundary | None = None
    ) -> None:
        """Binds the resolver's and the proxy's addresses. Raises DriverFault."""
        self._settings, self._network = settings, network
        self._boundary = boundary or Boundary(settings.network, ())
        self._wards = Wards()
        self._mates: dict[int, dict[str, tuple[str, str]]] = {}
        self._learned: dict[int, EgressPolicy] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._up = asyncio.Event()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._child: Child | None = None
        with ExitStack() as bound:
            routers = (str(network.plan.router4), str(network.plan.router6))
            self._datagrams = [_bound(bound, a, 53, socket.SOCK_DGRAM) for a in routers]
            self._streams = [_bound(bound, a, 53, socket.SOCK_STREAM) for a in routers]
            self._proxies = [_bound(bound, a, PROXY_PORT, socket.SOCK_STREAM) for a in routers]
            self._bound = bound.pop_all()

    async def run(self) -> None:
        """Keep the child until cancelled."""
        pause = _PAUSE
        try:
            while True:
                begin = asyncio.get_running_loop().time()
                try:
                    await self._once()
                except (OSError, EOFError, ValueError, msgspec.DecodeError) as error:
                    log.warning("the guard ended: %r", error)
                if asyncio.get_running_loop().time() - begin > 10 * _PAUSE_MAX:
                    pause = _PAUSE
                await asyncio.sleep(pause)
                pause = min(_PAUSE_MAX, pause * 2)
        finally:
            self._bound.close()

    async def _once(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            child = await spawn(self._command(theirs), descriptors=self._descriptors(theirs))
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours)
        try:
            floor = self._network.floor
            nets = tuple(map(str, (*floor.nets4, *floor.nets6)))
            self._send(Hello(tuple(self._settings.network.resolvers), nets))
            for ward in self._wards.members():
                self._tell(ward)
            for group, members in self._mates.items():
                self._send(Mates(group, members))
            self._up.set()
            while True:
                self._heard(to_node.decode(await read(reader)))
        finally:
            self._up.clear()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(DriverFault("network", "tell the guard", "it ended"))
            self._writer.close()
            self._writer = None
            self._learned.clear()
            self._wards.guard_ended()
            await child.stop(1.0)

    def _command(self, line: socket.socket) -> list[str]:
        options = [
            word
            for name, sockets in (
                ("datagram", self._datagrams),
                ("stream", self._streams),
                ("proxy", self._proxies),
            )
            for one in sockets
            for word in (f"--{name}", str(one.fileno()))
        ]
        for name, fd in self._boundary.certificates.items():
            options += ["--certificate", name, str(fd)]
        network = self._settings.network
        settings = [f"network.uid={network.uid}", f"network.authorities={network.authorities}"]
        if self._settings.policies:
            settings.append(f"policies={self._settings.policies}")
        flags = [word for setting in settings for word in ("--set", setting)]
        program = [sys.executable, "-m", "sandboxd.cli.main"]
        return [*program, *flags, "network", str(line.fileno()), *options]

    def _descriptors(self, line: socket.socket) -> list[int]:
        every = (line, *self._datagrams, *self._streams, *self._proxies)
        return [*(one.fileno() for one in every), *self._boundary.certificates.values()]

    async def assign(
        self,
        slot: EgressSlot,
        policy: EgressPolicy,
        member: str = "",
        told: Callable[[Seen], None] = lambda seen: None,
    ) -> None:
        """Have the slot's questions answered by this policy; `member` is its name among its group's, and
        `told` gets what is seen of it.

        Waits for the guard where that has to know before it is asked: who can be asked for by name, and
        what is no longer as it was told. Raises DriverFault if it is not there for seconds.
        """
        ward = self._wards.make(slot, policy, member, told)
        if self._up.is_set() and not member and self._wards.unknown(slot):
            self._wards.enter(ward)
            return
        future = self._waiting[ward.id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._up.wait()
                self._wards.enter(ward)
                self._tell(ward)
                await future
        except TimeoutError:
            raise DriverFault("network", "tell the guard", "it does not answer") from None
        finally:
            del self._waiting[ward.id]

    def expect(
        self, slot: EgressSlot, policy: EgressPolicy, member: str, told: Callable[[Seen], None]
    ) -> None:
        """As `assign`, before it runs: it begins with that, or asks."""
        self._wards.enter(self._wards.make(slot, policy, member, told))

    def meet(self, mates: dict[int, dict[str, tuple[str, str]]]) -> None:
        """Who is in which group on other nodes, by name."""
        for group in {*mates, *self._mates}:
            names = mates.get(group, {})
            if names != self._mates.get(group, {}):
                self._send(Mates(group, names))
        self._mates = mates

    def relearn(self) -> None:
        """Attached secrets have changed: who is assigned from now on gets the new ones."""
        self._learned.clear()

    def release(self, slot: EgressSlot) -> None:
        """The slot's sandbox is gone."""
        message = self._wards.release(slot)
        if message is not None:
            self._send(message)

    def _tell(self, ward: Ward) -> None:
        known = self._learned.get(ward.group)
        if known is not ward.policy:
            self._learned[ward.group] = ward.policy
            attached = self._boundary.attached(ward.policy)
            self._send(Learn(ward.group, names(ward.policy, attached)))
        self._send(Assign(ward.id, ward.slot.addresses.texts, ward.group, ward.member))
        self._wards.told(ward)

    def _send(self, message: ToGuard) -> None:
        if self._writer is not None:
            self._writer.write(frame(message))

    def _heard(self, message: Done | Who | Open | Seen) -> None:
        match message:
            case Done():
                self._wards.done(message.id)
                future = self._waiting.get(message.id)
                if future is not None and not future.done():
                    future.set_result(None)
            case Who():
                ward = self._wards.at(message.address)
                if ward is None:
                    self._send(Nobody(message.address))
                else:
                    self._tell(ward)
            case Open():
                task = asyncio.get_running_loop().create_task(self._open(message))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
            case Seen():
                ward = self._wards.of_record(message.assignment)
                if ward is not None:
                    ward.told(message)

    async def _open(self, message: Open) -> None:
        done = False
        ward = self._wards.at(message.sandbox)
        try:
            if ward is not None:
                openings = checked(message, ward.policy)
                await self._network.soon(self._network.open, ward.slot, ward.assignment, openings)
                done = True
        except (DriverFault, ValueError) as error:
            log.warning("the guard asked for what it may not have: %s", error)
        self._send(Opened(message.id, done))


def names(policy: EgressPolicy, attached: tuple[Attached, ...] = ()) -> Names:
    """What the guard has to know of a policy."""
    return Names(
        allow=tuple(
            NameRule(rule.domain, rule.protocol, _ports(rule.ports), rule.opaque)
            for rule in policy.allow
            if rule.domain is not None
        ),
        deny=tuple(rule.domain for rule in policy.deny if rule.domain is not None),
        deny_nets=tuple(
            rule.cidr for rule in policy.deny if rule.cidr is not None and not rule.ports
        ),
        resolve=policy.resolve,
        attached=attached,
    )


def checked(message: Open, policy: EgressPolicy) -> list[Opening]:
    """What it asks for, if the policy has such ports for some name. Raises ValueError."""
    possible = {
        (rule.protocol, port, rule.protocol == "tcp" and not rule.opaque)
        for rule in policy.allow
        if rule.domain is not None
        for port in _ports(rule.ports)
    }
    sandbox = ipaddress.ip_address(message.sandbox)
    openings = []
    for target in message.targets:
        address = ipaddress.ip_address(target.address)
        if (target.protocol, target.port, target.proxied) not in possible:
            raise ValueError(f"{target.protocol} {target.port} is no name's")
        if address.version != sandbox.version:
            raise ValueError(f"{address} is of another family")
        openings.append(
            Opening(sandbox, target.protocol, target.port, address, target.ttl, target.proxied)
        )
    return openings


def _ports(given: list[int | str]) -> tuple[int, ...]:
    return tuple(int(port) for port in given) or _PORTS


def _bound(stack: ExitStack, address: str, port: int, kind: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = stack.enter_context(socket.socket(family, kind))
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
        if kind == socket.SOCK_STREAM:
            bound.listen(1024)
    except OSError as error:
        raise DriverFault("network", f"bind {address}:{port}", str(error)) from error
    return bound
