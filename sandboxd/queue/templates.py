"""Templates that tenants have made: one hash per tenant, which every gateway reads."""

import msgspec

from sandboxd.errors import QuotaExceeded
from sandboxd.model.stored import TemplateRequest
from sandboxd.queue.connections import Connections
from sandboxd.settings import Settings

_MOST = 200
"""Templates of one tenant."""
_decode = msgspec.json.Decoder(TemplateRequest).decode


class Templates:
    """Every method raises Unavailable while Redis does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._connections = Connections(settings.redis_url)
        self._root = f"sandboxd:{{{settings.instance}}}:templates:"

    async def close(self) -> None:
        await self._connections.close()

    async def put(self, tenant: str, name: str, template: TemplateRequest) -> None:
        """Make it, or change it. Raises QuotaExceeded."""
        key = self._root + tenant
        if await self._connections.call("HLEN", key) >= _MOST and not await self._connections.call(
            "HEXISTS", key, name
        ):
            raise QuotaExceeded(f"a tenant has at most {_MOST} templates")
        await self._connections.call("HSET", key, name, msgspec.json.encode(template))

    async def get(self, tenant: str, name: str) -> TemplateRequest | None:
        found = await self._connections.call("HGET", self._root + tenant, name)
        return None if found is None else _decode(found)

    async def all(self, tenant: str) -> dict[str, TemplateRequest]:
        """By name."""
        pairs = await self._connections.call("HGETALL", self._root + tenant)
        flat = pairs if isinstance(pairs, list) else [x for pair in pairs.items() for x in pair]
        names = (name.decode() for name in flat[::2])
        return dict(sorted(zip(names, map(_decode, flat[1::2]), strict=True)))

    async def drop(self, tenant: str, name: str) -> bool:
        """Whether there was one."""
        return bool(await self._connections.call("HDEL", self._root + tenant, name))
