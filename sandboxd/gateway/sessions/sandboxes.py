"""The gateway's way to sandboxes: which node has one, a call to it, and honest words about its absence.

Whose a sandbox is and where it runs is read from the directory once and remembered; the node checks both
again at each call, so that a memory that has grown old can mislead nobody.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from typing import TypeVar

from sandboxd.errors import DriverFault, NotFound, RequestTimeout, SandboxEnded, Unavailable
from sandboxd.gateway.offers import Offers
from sandboxd.gateway.sessions.agents import Agents, NodeUnreachable
from sandboxd.gateway.sessions.handover import handed
from sandboxd.gateway.sessions.line import Line, NodeLost, decoded
from sandboxd.gateway.sessions.names import is_sandbox_id
from sandboxd.model import NodeRecord
from sandboxd.model.agent import Call, Create, Kind, ReadFile, WriteFile
from sandboxd.model.session import Entry, SandboxState
from sandboxd.queue.network_records import NetworkRecords
from sandboxd.queue.sessions import Sessions
from sandboxd.queue.signing import SigningSecret
from sandboxd.settings import Settings

T = TypeVar("T")

_REMEMBERED = 10_000
PATIENCE = 30.0
"""Seconds for a call that has no run time of a program in it."""
CREATION = 60.0


class Sandboxes:
    """One per gateway process."""

    def __init__(self, settings: Settings, offers: Offers) -> None:
        self.directory = Sessions(settings)
        self.records = NetworkRecords(settings)
        self.secret = SigningSecret(settings)
        self.agents = Agents()
        self._offers = offers
        self._places: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def close(self) -> None:
        self.agents.close()
        await self.directory.close()
        await self.records.close()
        await self.secret.close()

    async def entry(self, tenant: str, sandbox: str) -> Entry:
        """The tenant's sandbox, live or ended. Raises NotFound."""
        found = None
        if is_sandbox_id(sandbox):
            found = await self.directory.find(tenant, sandbox)
        if found is None:
            raise NotFound("there is no such sandbox, or it ended more than a day ago")
        return found

    async def live(self, tenant: str, sandbox: str) -> Entry:
        """The tenant's live sandbox. Raises NotFound, SandboxEnded."""
        found = await self.entry(tenant, sandbox)
        if found.sandbox.state is SandboxState.ENDED:
            raise _over(found)
        return found

    async def ask(
        self, call: Call, answer: type[T], timeout: float = PATIENCE, address: str | None = None
    ) -> T:
        """One call and its answer. Raises what the node answers, NotFound, SandboxEnded, Unavailable,
        NodeLost, and RequestTimeout after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout), self.open(call, address=address) as (_, first):
                kind, payload = first
                if kind is not Kind.REPLY:
                    raise DriverFault("agent", "call", f"{kind.name} where REPLY was to come")
                return decoded(payload, answer)
        except TimeoutError:
            raise RequestTimeout(f"the sandbox's node took more than {timeout:g} seconds") from None

    @asynccontextmanager
    async def open(
        self, call: Call, *, address: str | None = None
    ) -> AsyncIterator[tuple[Line, tuple[Kind, bytes]]]:
        """A call that streams: its line, and the first frame that came. `address` is for a sandbox
        that is not in the directory yet. Raises as `ask`."""
        async with AsyncExitStack() as stack:
            line = await self._begin(call, address, stack)
            yield line, await self._first(line, call)

    @asynccontextmanager
    async def upload(self, call: Call) -> AsyncIterator[Line]:
        """A call whose input goes before its first frame. Raises as `ask`."""
        address = (await self.live(call.tenant, call.sandbox)).address
        async with AsyncExitStack() as stack:
            yield await self._begin(call, address, stack)

    @asynccontextmanager
    async def handed(self, call: ReadFile | WriteFile) -> AsyncIterator[tuple[Line, bytes, int]]:
        """A call with `handover`, see there. Raises as `ask`."""
        address = (await self.live(call.tenant, call.sandbox)).address
        async with handed(address, call) as found:
            yield found

    async def _begin(self, call: Call, address: str | None, stack: AsyncExitStack) -> Line:
        """A line on which the call has been sent."""
        key = (call.tenant, call.sandbox)
        known = address or self._places.get(key)
        if known is not None:
            try:
                line = await stack.enter_async_context(self.agents.line(known))
                await line.start(call)
                return line
            except (NodeLost, NodeUnreachable):
                raise
            except Unavailable:
                if address is not None:
                    raise
                self._places.pop(key, None)
        place = (await self.live(*key)).address
        line = await stack.enter_async_context(self.agents.line(place))
        await line.start(call)
        self._places[key] = place
        while len(self._places) > _REMEMBERED:
            self._places.popitem(last=False)
        return line

    async def _first(self, line: Line, call: Call) -> tuple[Kind, bytes]:
        try:
            return await line.next()
        except (NotFound, SandboxEnded) as error:
            if type(error) not in (NotFound, SandboxEnded) or isinstance(call, Create):
                raise
            self._places.pop((call.tenant, call.sandbox), None)
            # Who ended it and when is in the directory; a process that is not there is not.
            entry = await self.entry(call.tenant, call.sandbox)
            if entry.sandbox.state is SandboxState.ENDED:
                raise _over(entry) from None
            raise

    async def node(self, sandbox: str, only: str | None = None) -> NodeRecord:
        """The node on which a new sandbox is to be: the same for each attempt, as long as the nodes
        are the same; `only` that one, if it is given. Raises Unavailable."""
        nodes = [
            node
            for node in await self._offers.nodes()
            if node.address.startswith("unix:") and only in (None, node.id)
        ]
        if not nodes:
            raise Unavailable(
                "there is no node on the gateway's machine, and others are not reached yet",
                retry_after=1.0,
            )
        return max(nodes, key=lambda node: sha256(f"{node.id}\0{sandbox}".encode()).digest())


def _over(entry: Entry) -> SandboxEnded:
    end = entry.sandbox.end
    if end is None:
        return SandboxEnded("the sandbox has ended")
    why = f": {end.detail}" if end.detail else ""
    return SandboxEnded(f"the sandbox ended at {end.at} ({end.reason}){why}")
