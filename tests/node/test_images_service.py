"""What the gateway hears of an upload that the node does not take."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from sandboxd.errors import BodyTooLarge
from sandboxd.model import images_wire as wire
from sandboxd.model.agent import MAX_DATA, Decoder, Kind, Problem, frame, message
from sandboxd.node.images_service import ImagesService

PIECES = 64
"""More than fits between two processes."""


class Full:
    """A library, and its upload, that takes one piece."""

    def __init__(self) -> None:
        self.taken = 0

    @contextmanager
    def upload(self) -> Iterator["Full"]:
        yield self

    def write(self, data: bytes) -> None:
        self.taken += 1
        if self.taken > 1:
            raise BodyTooLarge("one piece is enough")


async def test_a_refusal_is_heard_by_who_goes_on_sending(tmp_path: Path) -> None:
    nobody: Any = None
    library: Any = Full()
    service = ImagesService(library, nobody, node="n", builds=1)
    await service.listen(tmp_path / "socket", 0)
    reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
    async with asyncio.timeout(20):
        writer.write(message(Kind.CALL, wire.ImportImage(tenant="t", name="x")))
        for _ in range(PIECES):
            writer.write(frame(Kind.DATA, bytes(MAX_DATA)))
            await writer.drain()
        ((kind, payload),) = Decoder().feed(await reader.read(MAX_DATA))
        assert kind is Kind.ERROR
        assert msgspec.msgpack.decode(payload, type=Problem).code == "body_too_large"
        assert library.taken == 2, "what came after was thrown away"
        writer.close()
        await writer.wait_closed()
        while service._connections:
            await asyncio.sleep(0.001)
    await service.close()
