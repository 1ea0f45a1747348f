"""Where nodes find each other's part of the group networks.

Below `sandboxd:{instance}:` are `overlay:NODE`, the JSON of an `OverlayRecord`, which expires unless its
node tells it again; `overlay-nodes`, a set of names; and `overlay-changes`, a short stream whose growth
says that one of the records is another.
"""

import msgspec

from sandboxd.model.overlay import OverlayRecord
from sandboxd.queue.connections import Connections
from sandboxd.settings import Settings

TTL = 15.0
"""Seconds that a record holds without being told again."""
_CHANGES = 16
_record = msgspec.json.Decoder(OverlayRecord)


class OverlayDirectory:
    """Every method raises Unavailable while Redis does not answer."""

    def __init__(self, settings: Settings) -> None:
        """Lazy: the first call connects."""
        self._connections = Connections(settings.redis_url)
        self._root = f"sandboxd:{{{settings.instance}}}:overlay"
        self._seen = "0"

    async def close(self) -> None:
        await self._connections.close()

    async def tell(self, record: OverlayRecord, *, changed: bool) -> None:
        name, document = f"{self._root}:{record.node}", msgspec.json.encode(record)
        commands: list[tuple[str | bytes | int, ...]] = [
            ("SET", name, document, "PX", int(TTL * 1000)),
            ("SADD", f"{self._root}-nodes", record.node),
        ]
        if changed:
            stream = f"{self._root}-changes"
            commands.append(("XADD", stream, "MAXLEN", "~", _CHANGES, "*", "node", record.node))
        await self._connections.block(*commands, seconds=0.0)

    async def forget(self, node: str) -> None:
        """It goes, and is not waited for."""
        await self._connections.block(
            ("DEL", f"{self._root}:{node}"),
            ("SREM", f"{self._root}-nodes", node),
            ("XADD", f"{self._root}-changes", "MAXLEN", "~", _CHANGES, "*", "node", node),
            seconds=0.0,
        )

    async def others(self, node: str, wait: float) -> list[OverlayRecord]:
        """Those of all other nodes, after the next change or `wait` seconds."""
        answer = (
            await self._connections.block(
                ("XREAD", "BLOCK", max(1, int(wait * 1000)), "STREAMS",
                 f"{self._root}-changes", self._seen),
                seconds=wait,
            )
        )[-1]  # fmt: skip
        if answer:
            self._seen = answer[0][1][-1][0].decode()
        names = await self._connections.call("SMEMBERS", f"{self._root}-nodes")
        found = []
        for name in sorted(each.decode() for each in names):
            document = await self._connections.call("GET", f"{self._root}:{name}")
            if name != node and document is not None:
                found.append(_record.decode(document))
        return found
