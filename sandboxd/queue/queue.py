"""The queue's typed client: one call, one transition, one round trip.

The transitions and every key are in `transitions.lua`. What this adds: documents in and out, the
streams that a node and a gateway wait on, and the position that each has read to.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from secrets import token_hex
from typing import Any

import msgspec
from redis.exceptions import NoScriptError

from sandboxd.errors import InvalidRequest, QueueFull, QuotaExceeded, Unavailable
from sandboxd.model import Command, Job, Lease, NodeRecord, Result, RunRecord, RunState
from sandboxd.queue.answers import CancelOutcome, Event, Stats
from sandboxd.queue.connections import Connections
from sandboxd.queue.scripts import GROWING, SETTLING, Script
from sandboxd.settings import Settings

_BATCH = 256
"""Entries of one read, leases of one renewal: Lua's stack and one answer's size stay bounded."""
_RETRY_AFTER = 1.0
_POSITION = re.compile(r"\d{1,19}(-\d{1,19})?")
_START = "0"

_encode = msgspec.json.encode
_job = msgspec.json.Decoder(Job)
_result = msgspec.json.Decoder(Result)
_node = msgspec.json.Decoder(NodeRecord)


class Queue:
    """Every method raises Unavailable while Redis does not answer; calling again is always safe."""

    def __init__(self, settings: Settings, clock: Callable[[], int] | None = None) -> None:
        """`clock` gives milliseconds; without one the server's own clock rules, which is the same
        for every machine."""
        self._connections = Connections(settings.redis_url)
        self._root = settings.queue_root
        self._clock = clock
        self._quotas = settings.quotas
        self._queue_max = settings.queue.max_length
        self._header = (
            int(settings.queue.lease * 1000),
            max(1, int(settings.queue.result_ttl * 1000)),
            settings.queue.events_max,
        )
        self._read: dict[str, str] = {}
        self._open_claims: dict[str, str] = {}
        self._cut_off: set[str] = set()
        self._left_behind: dict[str, bool] = {}
        self._handled: dict[str, str] = {}
        """Positions before which a node's inbox may be trimmed."""

    @classmethod
    def connect(cls, settings: Settings) -> "Queue":
        """Lazy: the first call connects."""
        return cls(settings)

    async def close(self) -> None:
        await self._connections.close()

    async def ping(self) -> None:
        await self._connections.call("PING")

    async def submit(self, job: Job, *, idempotency_key: str | None = None) -> str:
        """The job's id, or that of the tenant's earlier job with the same key.

        Raises QueueFull, QuotaExceeded.
        """
        idem = ""
        if idempotency_key is not None:
            idem = sha256(f"{len(job.tenant)}:{job.tenant}:{idempotency_key}".encode()).hexdigest()
        most = self._quotas(job.tenant).jobs
        outcome = await self._transition(
            "submit", job.id, _encode(job), job.tenant, job.reserve_cpu, job.reserve_memory,
            job.request.retry, job.reply_to or "", job.created_at, job.request.language or "", idem,
            job.node or "", self._queue_max, most, script=GROWING,
        )  # fmt: skip
        if outcome[0] == b"accepted":
            return str(outcome[1].decode())
        if outcome[0] == b"queue_full":
            raise QueueFull(f"{self._queue_max} jobs are waiting", retry_after=_RETRY_AFTER)
        raise QuotaExceeded(f"{job.tenant} has {most} unfinished jobs", retry_after=_RETRY_AFTER)

    async def claim(
        self, node: str, *, jobs: int, cpu: int, memory: int, takes: bool = False
    ) -> list[Lease]:
        """Up to `jobs` waiting jobs, from the head, as long as their reservations fit in `cpu`
        (thousandths of a core) and `memory` (bytes) together; the first that does not fit ends it.
        A node that `takes` jobs may get the next one that fits from `wait`, leased already.

        A node calls this first, then after every `wait`, and if jobs were `left_behind` also whenever its
        capacity has grown. If it raises, jobs may have been leased all the same: the next call gives
        them.
        """
        call = self._open_claims.pop(node, None) or token_hex(8)
        try:
            left, *answer = await self._transition(
                "claim", node, call, jobs, cpu, memory, int(takes), self._handled.pop(node, "")
            )
        except BaseException:
            self._open_claims[node] = call
            self._cut_off.add(node)
            raise
        self._left_behind[node] = bool(left)
        return [
            Lease(job=_job.decode(document), attempt=int(attempt), node=node)
            for attempt, document in zip(answer[::2], answer[1::2], strict=True)
        ]

    def left_behind(self, node: str) -> bool:
        """Whether the node's last claim may have left jobs waiting; if not, `wait` tells of the next."""
        return self._left_behind.get(node, True)

    async def wait(self, node: str, timeout: float) -> list[Command]:
        """Returns when there may be work to claim or there are commands, at the latest after
        `timeout` seconds, which should stay well below the lease. Jobs that come so are leased."""
        if node in self._cut_off:
            # A claim may have failed after its wake-up was used, so there may be work.
            await self.ping()
            self._cut_off.discard(node)
            return []
        inbox = f"{self._root}inbox:{node}"
        try:
            entries = await self._unread(inbox, timeout)
        except Unavailable:
            self._cut_off.add(node)
            raise
        self._advance(inbox, entries)
        if any(kind == b"job" for _, (kind, _) in entries):
            self._handled[node] = _after(self._read[inbox])
        return [_command(node, kind, value) for _, (kind, value) in entries if kind != b"work"]

    async def start(self, lease: Lease) -> bool:
        """leased -> started. False: do not execute, the job was cancelled or is another's."""
        return bool(await self._transition("start", lease.job.id, lease.node, lease.attempt))

    async def renew(self, node: str, leases: Iterable[tuple[str, int]]) -> set[str]:
        """Extends (id, attempt) pairs; the ids that are no longer this node's."""
        pairs = [f"{attempt} {job_id}" for job_id, attempt in leases]
        gone: set[str] = set()
        for first in range(0, len(pairs), _BATCH):
            answer = await self._transition("renew", node, *pairs[first : first + _BATCH])
            gone.update(job_id.decode() for job_id in answer)
        return gone

    async def tell(self, lease: Lease, first: int, news: Sequence[tuple[str, bytes]]) -> bool:
        """Adds events of a started job, each a type and a JSON object. False: it is another's.

        `first` is the number of the first of them in this attempt, from 0; none is added twice.
        """
        flat = [part for kind, document in news for part in (kind, document)]
        return bool(
            await self._transition(
                "tell", lease.job.id, lease.node, lease.attempt, first, *flat, script=GROWING
            )
        )

    async def complete(self, lease: Lease, result: Result) -> bool:
        """-> finished with `result`. False: another end, or another attempt, came first."""
        return bool(
            await self._transition(
                "complete", lease.job.id, lease.node, lease.attempt, result.status, _encode(result)
            )
        )

    async def release(self, lease: Lease) -> bool:
        """leased -> queued, at its old place. False: it was started, cancelled or lost."""
        return bool(await self._transition("release", lease.job.id, lease.node, lease.attempt))

    async def withdraw(self, node: str) -> None:
        """The node will claim no more. What it was given before, the next `wait` brings."""
        await self._transition("withdraw", node)

    async def cancel(self, job_id: str) -> CancelOutcome:
        return CancelOutcome((await self._transition("cancel", job_id)).decode())

    async def record(self, job_id: str) -> tuple[str, RunRecord] | None:
        """The job's tenant and record, or None if it is unknown or was forgotten."""
        tenant, state, created, node, attempt, result = await self._transition("record", job_id)
        if state is None:
            return None
        return tenant.decode(), RunRecord(
            id=job_id,
            state=RunState(state.decode()),
            created_at=created.decode(),
            node=node.decode() or None,
            attempt=int(attempt),
            result=result and _result.decode(result),
        )

    async def events(
        self, job_id: str, after: str = _START, block: float | None = None
    ) -> list[Event]:
        """Events after position `after`; with `block`, waits that many seconds for the first.

        Raises InvalidRequest if `after` is not a position.
        """
        if not _POSITION.fullmatch(after):
            raise InvalidRequest(f"{after[:64]!r} is not the id of an event")
        key = f"{self._root}events:{job_id}"
        if block is None:
            answer = await self._connections.call("XREAD", "STREAMS", key, after)
        else:
            answer = await self._stream(key, after, block)
        return [_event(*entry) for entry in _entries(answer)]

    async def recover(self, node: str) -> tuple[int, int]:
        """For a node that starts: gives back what it held. The jobs requeued, and ended."""
        requeued, lost = await self._transition("recover", node)
        return requeued, lost

    async def reap(self) -> tuple[int, int]:
        """The same for every expired lease; every gateway and node calls it every few seconds."""
        requeued, lost = await self._transition("reap")
        return requeued, lost

    async def replies(self, gateway: str, block: float = 5.0) -> list[Result]:
        """Results of this gateway's jobs, in order; waits `block` seconds for the first.

        One reader per gateway. A result is dropped from the server by the call after the one that
        returned it, so a broken connection loses none.
        """
        replies = f"{self._root}replies:{gateway}"
        entries = await self._unread(replies, block, trim=True)
        results: list[Result] = []
        for _, (job_id, inline) in entries:
            document = inline or await self._connections.call(
                "GET", f"{self._root}result:{job_id.decode()}"
            )
            if document:
                results.append(_result.decode(document))
        self._advance(replies, entries)
        return results

    async def announce(self, record: NodeRecord, ttl: float) -> None:
        """Makes a node known for `ttl` seconds."""
        await self._transition("announce", record.id, _encode(record), int(ttl * 1000))

    async def nodes(self) -> list[NodeRecord]:
        records = [_node.decode(record) for record in await self._transition("nodes")]
        return sorted(records, key=lambda record: record.id)

    async def stats(self) -> Stats:
        return Stats(*await self._transition("stats"))

    async def _transition(
        self, name: str, *arguments: str | bytes | int, script: Script = SETTLING
    ) -> Any:
        now = self._clock() if self._clock else 0
        at = _rfc3339(now or int(time.time() * 1000))
        command = (1, self._root, name, now, at, *self._header, *arguments)
        try:
            return await self._connections.call("EVALSHA", script.sha, *command)
        except NoScriptError:  # a server that has restarted; EVAL teaches it the script again
            return await self._connections.call("EVAL", script.text, *command)

    async def _unread(self, key: str, block: float, *, trim: bool = False) -> list[Any]:
        return _entries(await self._stream(key, self._read.get(key, _START), block, trim=trim))

    def _advance(self, key: str, entries: list[Any]) -> None:
        if entries:
            self._read[key] = entries[-1][0].decode()

    async def _stream(self, key: str, after: str, block: float, *, trim: bool = False) -> Any:
        read = (
            "XREAD", "COUNT", _BATCH, "BLOCK", max(1, int(block * 1000)), "STREAMS", key, after,
        )  # fmt: skip
        if trim and after != _START:
            drop = ("XTRIM", key, "MINID", _after(after))
            return (await self._connections.block(drop, read, seconds=block))[-1]
        return (await self._connections.block(read, seconds=block))[-1]


def _command(node: str, kind: bytes, value: bytes) -> Command:
    if kind != b"job":
        return Command(kind=kind.decode(), job=value.decode())
    attempt, _, document = value.partition(b" ")
    lease = Lease(job=_job.decode(document), attempt=int(attempt), node=node)
    return Command(kind="job", job=lease.job.id, lease=lease)


def _after(position: str) -> str:
    """The first position beyond."""
    milliseconds, _, number = position.partition("-")
    return f"{milliseconds}-{int(number) + 1}"


def _entries(answer: Any) -> list[Any]:
    return list(answer[0][1]) if answer else []


def _event(position: bytes, fields: list[bytes]) -> Event:
    texts = [field.decode() for field in fields]
    data: dict[str, Any] = dict(zip(texts[2::2], texts[3::2], strict=True))
    if "json" in data:
        data = msgspec.json.decode(data["json"])
    elif "attempt" in data:
        data["attempt"] = int(data["attempt"])
    name = position.decode()
    at = _rfc3339(int(name.partition("-")[0]))
    return Event(id=name, type=texts[1], at=at, data=data)


def _rfc3339(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
