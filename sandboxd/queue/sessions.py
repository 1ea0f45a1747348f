"""The directory of sessions: which node has which sandbox, and what became of those that ended.

The gateway reserves, finds and lists; the sandbox's node writes. The keys are in `sessions.lua`.
"""

import re
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from redis.exceptions import NoScriptError

from sandboxd.errors import InvalidRequest, QuotaExceeded
from sandboxd.model.callback import Callback, SandboxCallback
from sandboxd.model.moment import rfc3339
from sandboxd.model.session import (
    End,
    EndReason,
    Entry,
    Sandbox,
    SandboxState,
)
from sandboxd.model.session_event import SandboxEvent, placed
from sandboxd.queue.connections import Connections
from sandboxd.queue.scripts import Script
from sandboxd.settings import Settings

_KEEP_MS = 86_400_000
"""An ended sandbox says why and when for a day."""
_GRACE = 60.0
"""Seconds without a sign of life after which a node's sandboxes are lost."""
_EVENTS_MAX = 10_000
_EVENTS_TTL_MS = 7 * 86_400_000
_BATCH = 200
_SCANNED_MAX = 5_000
"""Records that one page looks at: a filter that matches few gives short pages, not long waits."""
_CURSOR = re.compile(r"(\d{1,16})(?:-(sbx_[a-z2-7]{26}))?")
_POSITION = re.compile(r"\d{1,19}(-\d{1,19})?")

_TEXT = Path(__file__).with_name("sessions.lua").read_bytes()
_SCRIPT = Script(b" flags=allow-oom", _TEXT)
"""Allowed when the server is full: what is written is small, and an end must always be."""
_encode = msgspec.json.encode
_entry = msgspec.json.Decoder(Entry)


class SandboxPage(Struct, frozen=True):
    sandboxes: list[Sandbox]
    next_cursor: str | None = None


class Sessions:
    """Every method raises Unavailable while Redis does not answer; calling again is always safe."""

    def __init__(self, settings: Settings) -> None:
        """Lazy: the first call connects."""
        self._connections = Connections(settings.redis_url)
        self._root = settings.queue_root
        self._quotas = settings.quotas

    async def close(self) -> None:
        await self._connections.close()

    async def reserve(self, tenant: str, sandbox: str, key: str | None) -> str:
        """The id to create: `sandbox`, or that of the tenant's sandbox which has this key (it may
        still be on its way). Raises QuotaExceeded early where `add` would; several that are on their way
        at once, and forks, are counted there."""
        most = self._quotas(tenant).sandboxes
        answer = await self._act("reserve", tenant, sandbox, _hash(key), most)
        if answer[0] == b"quota":
            raise _beyond(tenant, most)
        return str(answer[1].decode())

    async def release(self, tenant: str, sandbox: str, key: str) -> None:
        """The reserved sandbox could not be created: its key is free again."""
        await self._act("release", tenant, sandbox, _hash(key))

    async def find(self, tenant: str, sandbox: str) -> Entry | None:
        """The tenant's sandbox, live or ended; None if there is none of this id."""
        document = await self._connections.call(
            "HGET", f"{self._root}session:{sandbox}", "document"
        )
        if document is None:
            return None
        entry = _entry.decode(document)
        return entry if entry.tenant == tenant else None

    async def page(
        self,
        tenant: str,
        *,
        state: SandboxState | None = None,
        metadata: Mapping[str, str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> SandboxPage:
        """The tenant's sandboxes, the newest first. A page may be short, or empty, and still have a
        next one. Raises InvalidRequest for a cursor that is none."""
        before, last = _place(cursor)
        found: list[Sandbox] = []
        scanned = 0
        while scanned < _SCANNED_MAX:
            answer = await self._act("page", tenant, before or "+inf", _BATCH)
            rows = [answer[i : i + 3] for i in range(0, len(answer), 3)]
            fresh = _after(rows, last)
            for name, score, document in fresh:
                before, last = score.decode(), name.decode()
                if not document:
                    continue
                sandbox = _entry.decode(document).sandbox
                if _matches(sandbox, state, metadata):
                    found.append(sandbox)
                    if len(found) == limit:
                        return SandboxPage(found, f"{before}-{last}")
            if len(rows) < _BATCH or not fresh:
                return SandboxPage(found)
            scanned += len(fresh)
        return SandboxPage(found, f"{before}-{last}")

    async def add(self, entry: Entry, callback: SandboxCallback | None = None, **data: str) -> bool:
        """A new sandbox of this node, and whom to tell of what happens to it. False if there is or was
        another of its id. Raises QuotaExceeded beyond the tenant's number of live ones."""
        sandbox, most = entry.sandbox, self._quotas(entry.tenant).sandboxes
        added: int = await self._act(
            "add", entry.tenant, sandbox.id, _hash(sandbox.key), sandbox.node, _encode(entry),
            *_told(callback), _encode(data), _EVENTS_MAX, _EVENTS_TTL_MS, most,
        )  # fmt: skip
        if added < 0:
            raise _beyond(entry.tenant, most)
        return added == 1

    async def update(self, entry: Entry, event: str = "", **data: str) -> bool:
        """What it is now, and perhaps what happened. False if it is over, or another node's."""
        sandbox = entry.sandbox
        return bool(
            await self._act(
                "update", sandbox.id, sandbox.node, _encode(entry), event, _encode(data),
                _EVENTS_MAX, _EVENTS_TTL_MS,
            )
        )  # fmt: skip

    async def finish(self, entry: Entry) -> bool:
        """Its end. False if that was told before."""
        sandbox = entry.sandbox
        assert sandbox.end is not None
        data = {"reason": str(sandbox.end.reason)}
        return bool(
            await self._act(
                "finish", sandbox.id, sandbox.node, _encode(entry), _KEEP_MS, _encode(data),
                _EVENTS_MAX, _EVENTS_TTL_MS,
            )
        )  # fmt: skip

    async def of_node(self, node: str) -> list[Entry]:
        """Those that this node had when it last wrote."""
        ids = await self._connections.call("SMEMBERS", f"{self._root}sessions-of:{node}")
        entries = []
        for name in ids:
            document = await self._connections.call(
                "HGET", f"{self._root}session:{name.decode()}", "document"
            )
            if document is not None:
                entries.append(_entry.decode(document))
        return entries

    async def bury(self, own: str, grace: float = _GRACE) -> int:
        """End those whose node, not this one, has not been announced for `grace` seconds during which
        this was asked; how many."""
        answer = await self._act("orphans", own, int(grace * 1000), _BATCH)
        buried = 0
        for i in range(0, len(answer), 3):
            if answer[i + 2]:
                buried += await self.lose(_entry.decode(answer[i + 2]))
        return buried

    async def lose(self, entry: Entry) -> bool:
        """The end of a sandbox whose node could not say it."""
        end = End(reason=EndReason.NODE_LOST, at=rfc3339(time.time()))
        return await self.finish(ended(entry, end))

    async def events(
        self, tenant: str, *, after: str = "0", wait: float = 0.0, limit: int = 100
    ) -> list[SandboxEvent]:
        """What happened to the tenant's sandboxes after a position (`$`: from now on); waits up to
        `wait` seconds for the first. Raises InvalidRequest for a position that is none."""
        if after != "$" and _POSITION.fullmatch(after) is None:
            raise InvalidRequest("not a position of an event", field="after")
        key = f"{self._root}session-events:{tenant}"
        command: list[str | bytes | int] = ["XREAD", "COUNT", limit]
        if wait > 0:
            command += ["BLOCK", max(1, int(wait * 1000))]
        answer = (await self._connections.block((*command, "STREAMS", key, after), seconds=wait))[
            -1
        ]
        return [_event(*item) for item in answer[0][1]] if answer else []

    async def _act(self, action: str, *arguments: str | bytes | int) -> Any:
        command = (1, self._root, action, *arguments)
        try:
            return await self._connections.call("EVALSHA", _SCRIPT.sha, *command)
        except NoScriptError:
            return await self._connections.call("EVAL", _SCRIPT.text, *command)


def _beyond(tenant: str, most: int) -> QuotaExceeded:
    return QuotaExceeded(f"{tenant} has {most} sandboxes", retry_after=5.0)


def ended(entry: Entry, end: End) -> Entry:
    """The record of a sandbox that is over."""
    sandbox = msgspec.structs.replace(entry.sandbox, state=SandboxState.ENDED, end=end)
    return msgspec.structs.replace(entry, sandbox=sandbox)


def _told(callback: SandboxCallback | None) -> tuple[bytes, str]:
    if callback is None:
        return b"", ""
    plain = Callback(url=callback.url, secret=callback.secret)
    return _encode(plain), f" {' '.join(callback.events)} " if callback.events else ""


def _hash(key: str | None) -> str:
    return "" if key is None else sha256(key.encode()).hexdigest()


def _place(cursor: str | None) -> tuple[str, str]:
    if cursor is None:
        return "", ""
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise InvalidRequest("not a cursor of this list", field="cursor")
    return match[1], match[2] or ""


def _after(rows: list[Any], last: str) -> list[Any]:
    """Those of a page that come after the one seen last, which shares its millisecond with the
    page's first."""
    names = [row[0].decode() for row in rows]
    return rows[names.index(last) + 1 :] if last in names else rows


def _matches(
    sandbox: Sandbox, state: SandboxState | None, metadata: Mapping[str, str] | None
) -> bool:
    if state is not None and sandbox.state is not state:
        return False
    return all(sandbox.metadata.get(name) == value for name, value in (metadata or {}).items())


def _event(position: bytes, fields: list[bytes]) -> SandboxEvent:
    pairs = dict(zip(fields[::2], fields[1::2], strict=True))
    event = {
        "id": position.decode(),
        "type": pairs[b"type"].decode(),
        "sandbox": pairs[b"sandbox"].decode(),
        "data": msgspec.json.decode(pairs[b"data"]),
    }
    return placed(msgspec.convert(event, SandboxEvent))
