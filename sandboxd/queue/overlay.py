"""Where nodes find each other's part of the group networks.

Below `sandboxd:{instance}:` are `overlay:NODE`, an `OverlayRecord` as `sealing` writes it, which
expires unless its node tells it again; `overlay-nodes`, a set of names; and `overlay-changes`, a short
stream whose growth says that one of the records is another.
"""

import logging

from sandboxd.model.overlay import OverlayRecord
from sandboxd.queue.connections import Connections
from sandboxd.queue.sealing import Seal
from sandboxd.settings import Settings

log = logging.getLogger(__name__)

TTL = 15.0
"""Seconds that a record holds without being told again."""
_CHANGES = 16


class OverlayDirectory:
    """Every method raises Unavailable while Redis does not answer."""

    def __init__(self, settings: Settings) -> None:
        """Lazy: the first call connects. Raises SettingsError for a secret that is not there, is short,
        or that others may read."""
        self._seal = Seal.of(settings.network.overlay_secret_file)
        self._connections = Connections(settings.redis_url)
        self._root = f"sandboxd:{{{settings.instance}}}:overlay"
        self._seen = "0"

    async def close(self) -> None:
        await self._connections.close()

    async def tell(self, record: OverlayRecord, *, changed: bool) -> None:
        name, document = f"{self._root}:{record.node}", self._seal.closed(record)
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
                try:
                    found.append(self._seal.opened(document, name))
                except ValueError as error:
                    log.warning("what is told as %s's counts for nothing: %s", name, error)
        return found
