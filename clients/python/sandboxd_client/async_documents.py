"""Streams of documents, for asyncio. `sync_documents` is made of this file, see tools/unasync.py."""

from collections.abc import AsyncGenerator
from typing import Any

from sandboxd_client.async_client import AsyncClient, _Exchange
from sandboxd_client.core import Flow
from sandboxd_client.deadline import Deadline
from sandboxd_client.sandbox_core import Documents


async def documents_of(
    client: AsyncClient, flow: Flow[Documents], deadline: Deadline
) -> AsyncGenerator[dict[str, Any], None]:
    """The documents of the stream that `flow` opens, to its end. To be closed (`aclosing`): that ends
    the request."""
    exchange = _Exchange(client._transport)
    try:
        documents = await exchange.drive(flow)
        while (document := await exchange.drive(documents.next(deadline))) is not None:
            yield document
    finally:
        await exchange.aclose()
