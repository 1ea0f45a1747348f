"""All open sandboxes of this node, and their entries in the directory of sessions.

A sandbox is in the directory before its creation is answered, and its end is told for as long as it
takes. Memory here is of the living; of the dead only so many as late calls may ask for.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from sandboxd.drivers.exec.base import Built, Spec
from sandboxd.drivers.graph.image import Image
from sandboxd.drivers.network.slots import KeptSlot
from sandboxd.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    Overload,
    SandboxdError,
    SandboxEnded,
    SystemFault,
    Unavailable,
    UnknownTemplate,
)
from sandboxd.model.agent import Create, Fork, Forked, History, Snapshot, Snapshotted
from sandboxd.model.session import EndReason, Entry, NetworkChoice, Sandbox, SessionLimits
from sandboxd.model.session_metrics import MetricsHistory
from sandboxd.node.adopting import LOCKS
from sandboxd.node.fitting import Fitter
from sandboxd.node.host import Host
from sandboxd.node.network import member_of
from sandboxd.node.network_audit import NetworkAudit
from sandboxd.node.pool import Pool
from sandboxd.node.sessions.enforcing import OWN_PIDS, differ, enforce, merged
from sandboxd.node.sessions.history import sample
from sandboxd.node.sessions.keeping import Keeping
from sandboxd.node.sessions.kept import Identity, KeptSession
from sandboxd.node.sessions.kernels import Kernels, Prepared, tell_environment
from sandboxd.node.sessions.session import Session
from sandboxd.queue.sessions import Sessions
from sandboxd.settings import SessionSettings

log = logging.getLogger(__name__)

_ENDED_KEPT = 10_000
_RETRY_FIRST, _RETRY_MAX = 0.05, 5.0
_BURY = 10.0
DEFAULT_TEMPLATE = "session"


class Registry:
    def __init__(
        self,
        settings: SessionSettings,
        host: Host,
        pool: Pool,
        fitter: Fitter,
        directory: Sessions,
        *,
        node: str,
        address: str,
        keeper: Path,
        audit: NetworkAudit,
    ) -> None:
        self._settings, self._host, self._pool = settings, host, pool
        self._fitter = fitter
        self._directory, self._node, self._address = directory, node, address
        self._audit = audit
        self._kernels = Kernels(host, pool)
        self._live: dict[str, Session] = {}
        self._ended: OrderedDict[str, tuple[str, Sandbox]] = OrderedDict()
        self._creating: dict[str, asyncio.Task[Session]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._keeping = Keeping(keeper, self._keep_all)
        self.created = 0

    @property
    def count(self) -> int:
        return len(self._live)

    async def start(self) -> None:
        """Go on with what the node before this one has left with the keeper."""
        if not self._keeping.start():
            log.info("no keeper: sandboxes end with this node")
        self._keep_locks()
        for adopted in self._host.take_adopted():
            session = self._restore(adopted.kept, adopted.built)
            await self._reconnect(session, adopted.kept)
            for process, fds in adopted.processes:
                session.processes.restore(process, fds)
            await self.update(session)
        if self._live:
            log.warning("%d sandboxes of the node before live on", len(self._live))

    def _restore(self, kept: KeptSession, built: Built) -> Session:
        session = Session(
            kept.identity,
            kept.request,
            kept.limits,
            built,
            kept=kept,
            settings=self._settings,
            keeping=self._keeping,
            network=partial(self._kept_network, built),
            on_change=self.note,
            on_end=self._on_end,
        )
        self._live[kept.identity.id] = session
        return session

    def _kept_network(self, built: Built) -> KeptSlot | None:
        networks = self._host.networks
        return None if networks is None else networks.kept(built)

    async def _reconnect(self, session: Session, kept: KeptSession) -> None:
        """Have the network of one that lives answered for again; it ends where that cannot be."""
        networks, identity = self._host.networks, session.identity
        if networks is None or kept.slot is None:
            return
        member = member_of(identity.tenant, identity.id, identity.network)
        try:
            use = await networks.restore(session.built, kept.slot, identity.network, member)
            use.listener = partial(self._audit.add, identity.id)
        except SandboxdError as error:
            log.error("sandbox %s loses its network and ends: %s", identity.id, error)
            session.kill(EndReason.NODE_LOST)
            return
        networks.follow(session.built, session.keep)
        session.keep()

    def _keep_all(self) -> None:
        self._keep_locks()
        for session in self._live.values():
            session.keep_all()

    def _keep_locks(self) -> None:
        """Whoever has the locks of the uid ranges has the ranges: they must outlive this node too."""
        self._keeping.put(LOCKS, None, self._host.locks)

    async def run(self) -> None:
        """What goes on beside the calls, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_losses())
            tasks.create_task(self._audit.run())
            if self._settings.metrics_interval > 0:
                tasks.create_task(sample(self._live.values, self._settings.metrics_interval))

    async def _tell_losses(self) -> None:
        """What an earlier node of this name had is lost, and what vanished nodes had is told to be."""
        while True:
            try:
                for entry in await self._directory.of_node(self._node):
                    if entry.sandbox.id not in self._live and entry.sandbox.id not in self._ended:
                        await self._directory.lose(entry)
                await self._directory.bury(self._node)
            except Unavailable as error:
                log.warning("the directory of sessions: %s", error)
            await asyncio.sleep(_BURY)

    def find(self, tenant: str, sandbox: str) -> Session:
        """The tenant's live sandbox. Raises NotFound, SandboxEnded."""
        session = self._live.get(sandbox)
        if session is not None and session.identity.tenant == tenant:
            return session
        self.ended(tenant, sandbox)
        raise SandboxEnded(f"sandbox {sandbox} has ended")

    def ended(self, tenant: str, sandbox: str) -> Sandbox:
        """The record of a sandbox that ended here. Raises NotFound."""
        owner, record = self._ended.get(sandbox, ("", None))
        if record is None or owner != tenant:
            raise NotFound(f"no sandbox {sandbox}")
        return record

    async def create(self, call: Create) -> Sandbox:
        """A new sandbox; the same again for the same id. Raises Overload and its kin,
        UnknownTemplate, InvalidRequest, UnknownImage, SystemFault."""
        if call.sandbox in self._live:
            return self.find(call.tenant, call.sandbox).record()
        task = self._creating.get(call.sandbox)
        if task is None:
            if self._closing or len(self._live) + len(self._creating) >= self._settings.max:
                raise Overload(f"the node has {self._settings.max} sandboxes", retry_after=1.0)
            task = asyncio.create_task(self._create(call))
            self._creating[call.sandbox] = task
            task.add_done_callback(lambda _: self._creating.pop(call.sandbox, None))
        session = await asyncio.shield(task)
        if session.identity.tenant != call.tenant:
            raise NotFound(f"no sandbox {call.sandbox}")
        return session.record()

    async def _create(self, call: Create) -> Session:
        template = self._template(call)
        ready = self._kernels.take(call)
        if ready is None:
            session = await self.adopt(call, await self._claim(call, template), template)
            self._kernels.begin(session)
            return session
        try:
            await self._attach(ready.built, call, call.request.network)
        except BaseException:
            ready.close()
            raise
        session = await self.adopt(call, ready.built, template, ready=ready)
        await tell_environment(session)
        return session

    def _template(self, call: Create) -> str:
        name = call.request.template or DEFAULT_TEMPLATE
        spec = self._host.specs.get(name)
        if spec is None or not spec.session:
            raise UnknownTemplate(f"no template {name} for sandboxes", field="template")
        return name

    async def _claim(self, call: Create, template: str) -> Built:
        network = call.request.network
        if network != "none" and self._host.networks is None:
            raise InvalidRequest(f"there is no network {network!r}", field="network")
        built = await self._fitter.open(call, template)
        await self._attach(built, call, network)
        return built

    async def _attach(self, built: Built, call: Create, network: NetworkChoice) -> None:
        """Put a new sandbox under the policy of that name, if it has a network at all."""
        networks = self._host.networks
        if network == "none" or networks is None:
            return
        try:
            member = member_of(call.tenant, call.sandbox, network)
            use = await networks.attach(built, network, member)
        except BaseException:
            self._pool.discard(built)
            raise
        use.listener = partial(self._audit.add, call.sandbox)

    async def adopt(
        self, call: Create, built: Built, template: str, *, forked_from: str | None = None,
        ready: Prepared | None = None,
    ) -> Session:  # fmt: skip
        """Make a built sandbox the session that was asked for; `ready` is what runs in it already."""
        base = SessionLimits(
            memory=built.spec.memory,
            pids=built.spec.pids + 1 - OWN_PIDS,
            cpus=built.spec.cpus,
            disk=built.spec.disk,
            open_files=self._host.open_files(template),
        )
        limits = merged(base, call.limits)
        try:
            if differ(built, base, limits):
                await asyncio.to_thread(enforce, built, base, limits)
        except BaseException:
            if ready is not None:
                ready.close()
            self._pool.discard(built)
            raise
        identity = Identity(
            id=call.sandbox,
            tenant=call.tenant,
            node=self._node,
            template=template,
            image=call.request.image or built.spec.image.name,
            network=call.request.network,
            created_at=time.time(),
            key=call.request.key,
            forked_from=forked_from,
        )
        session = Session(
            identity,
            call.request,
            limits,
            built,
            first=None if ready is None else (ready.process, ready.fds),
            settings=self._settings,
            keeping=self._keeping,
            network=partial(self._kept_network, built),
            on_change=self.note,
            on_end=self._on_end,
        )
        self._live[session.identity.id] = session
        if session.networked and self._host.networks is not None:
            self._host.networks.follow(built, session.keep)
        self.created += 1
        try:
            added = await self._directory.add(
                self._entry(session), call.request.callback, template=template
            )
        except BaseException:
            session.kill(EndReason.KILLED)
            raise
        if not added:  # it has ended, or is another node's: an id is one sandbox
            session.kill(EndReason.KILLED)
            await asyncio.shield(session.over)
            raise Conflict("there is, or was, a sandbox of this id")
        return session

    def _entry(self, session: Session) -> Entry:
        return Entry(
            tenant=session.identity.tenant, address=self._address, sandbox=session.record()
        )

    async def update(self, session: Session, event: str = "", **data: str) -> None:
        """Write what it is now; later, if the directory does not answer."""
        try:
            await self._write(session, event, data)
        except Unavailable:
            self.note(session, event, **data)

    def note(self, session: Session, event: str, **data: str) -> None:
        """The same in the background."""
        self._spawn(self._insist(lambda: self._write(session, event, data)))

    async def _write(self, session: Session, event: str, data: dict[str, str]) -> None:
        """What it is by now. One that the directory has given up for lost must not live on."""
        if session.end is None and not await self._directory.update(
            self._entry(session), event, **data
        ):
            session.kill(EndReason.NODE_LOST)

    def _forked_spec(self, session: Session, image: Image) -> Spec:
        """An image of the store has nothing of a network yet; one on top of the sandbox's own has."""
        networks = self._host.networks
        if networks is None or not session.networked or not image.digest:
            return replace(session.built.spec, image=image)
        spec = self._host.specs[session.identity.template]
        return networks.spec(replace(spec, image=image, mounts=session.built.spec.mounts))

    async def change_network(self, session: Session, network: NetworkChoice) -> None:
        """Put a sandbox that was built with a network under another policy, or cut it off (`none`).
        Raises Conflict, InvalidRequest."""
        networks = self._host.networks
        if networks is None or not session.networked:
            raise Conflict("the sandbox was built without a network", field="network")
        identity = session.identity
        await networks.attach(
            session.built, network, member_of(identity.tenant, identity.id, network)
        )
        session.identity = replace(identity, network=network)
        session.keep()

    def history(self, session: Session, call: History) -> MetricsHistory:
        """What it has used over time."""
        return MetricsHistory(
            interval=self._settings.metrics_interval, samples=session.history.samples(call.after)
        )

    async def snapshot(self, session: Session, call: Snapshot) -> Snapshotted:
        """Its file system as an image of its tenant's. Raises Conflict, InvalidImage, QuotaExceeded."""
        built = session.built
        async with session.still():
            digest, size = await session.work(
                self._host.copies.snapshot,
                session.identity.tenant,
                built.spec.image,
                built.native.scratch,
                built.uid,
                name=call.name or f"{session.identity.id}:{int(time.time() * 1000)}",
                note=f"snapshot of {session.identity.id}",
            )
        self.note(session, "snapshot", image=digest)
        return Snapshotted(digest, size)

    async def fork(self, session: Session, call: Fork) -> Forked:
        """Sandboxes on one instant of this one's file system; all of them, or none. Raises Overload,
        Conflict, InvalidImage."""
        if self._closing or len(self._live) + len(call.children) > self._settings.max:
            raise Overload(f"the node has {self._settings.max} sandboxes", retry_after=1.0)
        built, copies = session.built, self._host.copies
        async with session.still():
            image = await session.work(
                copies.beneath, built.spec.image, built.native.scratch, built.uid
            )
        try:
            begun = [self._fork_one(session, child, image) for child in call.children]
            outcomes = await asyncio.gather(*begun, return_exceptions=True)
        finally:
            if image is not None and image.hold is not None:
                image.hold.drop()
        children = [made for made in outcomes if isinstance(made, Session)]
        for failure in outcomes:
            if isinstance(failure, BaseException):
                for child in children:
                    child.kill(EndReason.KILLED)
                raise failure
        self.note(session, "forked", children=" ".join(call.children))
        return Forked([child.record() for child in children])

    async def _fork_one(self, session: Session, child: str, image: Image | None) -> Session:
        identity = session.identity
        request = replace(
            session.request,
            key=None,
            metadata=session.metadata,
            timeout=session.life.timeout,
            idle_timeout=session.life.idle_timeout,
            on_timeout=session.life.on_timeout,
            network=identity.network,
            limits=session.limits,
        )
        call = Create(tenant=identity.tenant, sandbox=child, request=request, limits=session.limits)
        if child in self._live:
            raise Conflict("there is a sandbox of this id", field="children")
        if image is None:
            built = await self._claim(call, self._template(call))
        else:
            built = await self._pool.make(self._forked_spec(session, image))
            await self._attach(built, call, identity.network)
        return await self.adopt(call, built, identity.template, forked_from=identity.id)

    def _on_end(self, session: Session) -> None:
        identity = session.identity
        self._live.pop(identity.id, None)
        self._ended.setdefault(identity.id, (identity.tenant, session.record()))
        while len(self._ended) > _ENDED_KEPT:
            self._ended.popitem(last=False)
        entry = self._entry(session)
        self._spawn(self._insist(lambda: self._directory.finish(entry)))
        self._pool.discard(session.built)

    async def end_all(self, reason: EndReason) -> None:
        """End every sandbox, and tell the directory."""
        self._closing = True
        await self._kernels.close()
        sessions = list(self._live.values())
        for session in sessions:
            session.kill(reason)
        if sessions:
            await asyncio.wait([session.over for session in sessions], timeout=10)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        await self._audit.flush()
        for task in self._tasks:
            task.cancel()
        self._keeping.drop(LOCKS)
        self._keeping.close()

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _insist(self, write: Callable[[], Awaitable[object]]) -> None:
        pause = _RETRY_FIRST
        while True:
            try:
                await write()
            except Unavailable:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _RETRY_MAX)
            except SystemFault as error:
                log.error("the directory of sessions: %s", error)
                return
            else:
                return
