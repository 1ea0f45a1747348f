"""A TCP connection to a server in a sandbox, on an asyncio WebSocket."""

import json
from types import TracebackType
from typing import Self

from sandboxd_client.async_socket import AsyncSocket
from sandboxd_client.deadline import Deadline
from sandboxd_client.endpoint import Endpoint
from sandboxd_client.errors import ConnectionFailed, from_problem
from sandboxd_client.model import parse
from sandboxd_client.sandbox_socket import CHUNK

_EOF = json.dumps({"type": "eof"})


class AsyncPortStream:
    """Write to it, read from it until None, the server's end."""

    def __init__(self, endpoint: Endpoint, path: str, deadline: Deadline) -> None:
        self._socket = AsyncSocket(endpoint, path, deadline, _broken)
        self._over = False

    @classmethod
    def to(cls, endpoint: Endpoint, sandbox: str, port: int, deadline: Deadline) -> Self:
        return cls(endpoint, f"/v1/sandboxes/{sandbox}/ports/{int(port)}", deadline)

    async def __aenter__(self) -> Self:
        await self._socket.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._socket.close(over=self._over)

    async def read(self) -> bytes | None:
        """What comes next, or None when the server has closed its direction."""
        while not self._over:
            message = await self._socket.receive()
            if isinstance(message, bytes):
                return message
            document = parse(message, dict)
            if document.get("type") == "error":
                problem = document.get("problem")
                raise from_problem(problem if isinstance(problem, dict) else {})
            self._over = document.get("type") == "eof"
        return None

    async def write(self, data: bytes) -> None:
        """Waits while the server does not read. What comes after its end is dropped."""
        for start in range(0, len(data), CHUNK):
            await self._socket.send(data[start : start + CHUNK])

    async def close_write(self) -> None:
        """Ends our direction; the server's goes on."""
        await self._socket.send(_EOF)


def _broken(cause: str) -> ConnectionFailed:
    return ConnectionFailed(f"the connection to the port broke: {cause}")
