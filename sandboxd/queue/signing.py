"""The secret with which gateways sign what they hand out: made once, the same for all of an instance."""

import secrets

from sandboxd.queue.connections import Connections
from sandboxd.settings import Settings

_BYTES = 32


class SigningSecret:
    """Raises Unavailable while Redis does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._connections = Connections(settings.redis_url)
        self._key = f"{settings.queue_root}signing-secret"
        self._secret: bytes | None = None

    async def get(self) -> bytes:
        """It lives as long as Redis' data; without them, what was signed before is worth nothing."""
        if self._secret is None:
            await self._connections.call("SET", self._key, secrets.token_bytes(_BYTES), "NX")
            self._secret = await self._connections.call("GET", self._key)
            assert self._secret is not None  # it was set, and never expires
        return self._secret

    async def close(self) -> None:
        await self._connections.close()
