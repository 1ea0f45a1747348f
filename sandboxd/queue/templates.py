"""Templates that tenants have made: one hash per tenant, which every gateway reads."""

from pathlib import Path

import msgspec
from redis.exceptions import NoScriptError

from sandboxd.errors import QuotaExceeded
from sandboxd.model.stored import TemplateRequest
from sandboxd.queue.connections import Connections
from sandboxd.queue.scripts import Script
from sandboxd.settings import Settings

TENANT_MAX = 200
"""Templates of one tenant."""
_PUT = Script(b"", Path(__file__).with_name("templates.lua").read_bytes())
_decode = msgspec.json.Decoder(TemplateRequest).decode


class Templates:
    """Every method raises Unavailable while Redis does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._connections = Connections(settings.redis_url)
        self._root = f"{settings.queue_root}templates:"

    async def close(self) -> None:
        await self._connections.close()

    async def put(self, tenant: str, name: str, template: TemplateRequest) -> None:
        """Make it, or change it. Raises QuotaExceeded."""
        command = (1, self._root + tenant, name, msgspec.json.encode(template), TENANT_MAX)
        try:
            put = await self._connections.call("EVALSHA", _PUT.sha, *command)
        except NoScriptError:
            put = await self._connections.call("EVAL", _PUT.text, *command)
        if not put:
            raise QuotaExceeded(f"a tenant has at most {TENANT_MAX} templates")

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
