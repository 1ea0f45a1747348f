"""The way of a tool's requests into the gateway's own application."""

import httpx
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from sandboxd.gateway.locality import is_local
from sandboxd.gateway.mcp import Inward


async def test_what_a_tool_asks_for_is_not_asked_from_this_machine() -> None:
    """What is open to this machine alone, such as all tenants' metrics, is closed to tools."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await PlainTextResponse("x")(scope, receive, send)

    async with httpx.AsyncClient(transport=Inward(app), base_url="http://localhost") as client:
        assert (await client.get("/metrics")).text == "x"
    assert [is_local(scope) for scope in seen] == [False]
