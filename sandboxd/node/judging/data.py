"""The data of cases: inline, or by digest from the store, and kept while there is room."""

import asyncio

from sandboxd.errors import Unavailable
from sandboxd.model.submission import CaseData, Content
from sandboxd.node.judging.cache import Cache
from sandboxd.queue.store import Store, digest

_RETRY_FIRST, _RETRY_MAX = 0.05, 2.0


class DataGone(Exception):
    """The store does not have it any more."""


class Data:
    def __init__(self, store: Store, room: int) -> None:
        self._store = store
        self.cache: Cache[bytes] = Cache(room, len)

    async def get(self, tenant: str, content: Content | None) -> bytes:
        """The bytes; none for None. Raises DataGone. Waits while Redis is away."""
        if content is None:
            return b""
        if isinstance(content, str):
            return content.encode()
        if content.digest is None:
            return content.data()
        return await self.cache.get(
            f"{tenant} {content.digest}", lambda: self._fetch(tenant, content)
        )

    async def _fetch(self, tenant: str, content: CaseData) -> bytes:
        pause = _RETRY_FIRST
        while True:
            try:
                data = await self._store.content(tenant, content)
                break
            except Unavailable:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _RETRY_MAX)
        if data is None or await asyncio.to_thread(digest, data) != content.digest:
            raise DataGone(f"the data {content.digest} is gone")
        return data
