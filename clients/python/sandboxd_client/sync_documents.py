"""Streams of documents, for threads. Made of `async_documents` by tools/unasync.py: do not edit."""

from collections.abc import Generator
from typing import Any

from sandboxd_client.core import Flow
from sandboxd_client.deadline import Deadline
from sandboxd_client.sandbox_core import Documents
from sandboxd_client.sync_client import Client, _Exchange


def documents_of(
    client: Client, flow: Flow[Documents], deadline: Deadline
) -> Generator[dict[str, Any], None, None]:
    """The documents of the stream that `flow` opens, to its end. To be closed (`closing`): that ends
    the request."""
    exchange = _Exchange(client._transport)
    try:
        documents = exchange.drive(flow)
        while (document := exchange.drive(documents.next(deadline))) is not None:
            yield document
    finally:
        exchange.close()
