"""What sandboxes asked of their networks, written down where it outlives them: one stream each.

`sandboxd:{instance}:network:ID` is a stream of records, the newest `_KEPT` or somewhat more, that expires
a week after the last. The node appends; whose a sandbox is, the directory of sessions says.
"""

import re
from collections.abc import Sequence

import msgspec

from sandboxd.errors import InvalidRequest
from sandboxd.model.network_use import NetworkEvent, NetworkRecord
from sandboxd.queue.connections import Connections
from sandboxd.settings import Settings

_KEPT = 1_000
_TTL_MS = 7 * 86_400_000
_POSITION = re.compile(r"\d{1,19}(-\d{1,19})?")
_encode = msgspec.json.Encoder().encode
_record = msgspec.json.Decoder(NetworkRecord)


class NetworkRecords:
    """Every method raises Unavailable while Redis does not answer."""

    def __init__(self, settings: Settings) -> None:
        """Lazy: the first call connects."""
        self._connections = Connections(settings.redis_url)
        self._root = f"sandboxd:{{{settings.instance}}}:network:"

    async def close(self) -> None:
        await self._connections.close()

    async def append(self, sandbox: str, records: Sequence[NetworkRecord]) -> None:
        key = self._root + sandbox
        adding = [
            ("XADD", key, "MAXLEN", "~", _KEPT, "*", "record", _encode(record))
            for record in records
        ]
        await self._connections.block(*adding, ("PEXPIRE", key, _TTL_MS), seconds=0.0)

    async def read(
        self, sandbox: str, *, after: str = "0", wait: float = 0.0, limit: int = 100
    ) -> list[NetworkEvent]:
        """Those after a position, the oldest first; waits up to `wait` seconds for the first. Raises
        InvalidRequest for a position that is none."""
        if _POSITION.fullmatch(after) is None:
            raise InvalidRequest("not a position of a record", field="cursor")
        command: list[str | bytes | int] = ["XREAD", "COUNT", limit]
        if wait > 0:
            command += ["BLOCK", max(1, int(wait * 1000))]
        command += ["STREAMS", self._root + sandbox, after]
        answer = (await self._connections.block(command, seconds=wait))[-1]
        return [_event(*item) for item in answer[0][1]] if answer else []


def _event(position: bytes, fields: list[bytes]) -> NetworkEvent:
    record = _record.decode(fields[1])
    given = {name: getattr(record, name) for name in record.__struct_fields__}
    return NetworkEvent(id=position.decode(), **given)
