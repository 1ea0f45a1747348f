"""Lists of sandboxes: by state, metadata, template and age, a page at a time."""

from collections.abc import Callable
from urllib.parse import parse_qsl, unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandboxd.errors import InvalidRequest
from sandboxd.gateway.adapters.e2b import words
from sandboxd.gateway.adapters.e2b.bodies import answer, number
from sandboxd.gateway.context import Gateway
from sandboxd.model.session import Sandbox, SandboxState

_PAGE, _PAGE_MAX = 100, 100
_SCANNED_MAX = 5_000
"""Sandboxes that one list in another order than ours looks at."""


class Listing:
    def __init__(self, gateway: Gateway) -> None:
        self._directory = gateway.sandboxes.directory

    def routes(self) -> list[Route]:
        return [
            Route("/sandboxes", self.list_v1, methods=["GET"]),
            Route("/v2/sandboxes", self.page, methods=["GET"]),
        ]

    async def list_v1(self, request: Request) -> Response:
        """Those that run, in one list."""
        found, _ = await self._found(
            request.scope["tenant"], request, {SandboxState.RUNNING}, _PAGE_MAX
        )
        return answer([words.listed(sandbox) for sandbox in found])

    async def page(self, request: Request) -> Response:
        """A page; where the next one begins is in a header."""
        query = request.query_params
        states = _states(query.getlist("state"))
        limit = number(query.get("limit"), _PAGE, "limit")
        found, token = await self._found(
            request.scope["tenant"], request, states, max(1, min(limit, _PAGE_MAX))
        )
        headers = {"x-next-token": token} if token is not None else None
        return answer([words.listed(sandbox) for sandbox in found], 200, headers)

    async def _found(
        self, tenant: str, request: Request, states: set[SandboxState], limit: int
    ) -> tuple[list[Sandbox], str | None]:
        query = request.query_params
        after = query.get("startedAfter")
        since = words.moment(after) if after is not None else None
        template = query.get("template")
        oldest_first = query.get("order") == "asc"

        def fits(sandbox: Sandbox) -> bool:
            return (
                sandbox.state in states
                and (template is None or words.notes(sandbox).template == template)
                and (since is None or words.moment(sandbox.created_at) > since)
            )

        metadata = _metadata(query.get("metadata"))
        if oldest_first:
            return await self._oldest(tenant, metadata, fits, limit, query.get("nextToken"))
        found: list[Sandbox] = []
        cursor = query.get("nextToken")
        while True:
            page = await self._directory.page(
                tenant, metadata=metadata, limit=limit - len(found), cursor=cursor
            )
            found += [sandbox for sandbox in page.sandboxes if fits(sandbox)]
            cursor = page.next_cursor
            if cursor is None or len(found) == limit:
                return found, cursor

    async def _oldest(
        self,
        tenant: str,
        metadata: dict[str, str],
        fits: Callable[[Sandbox], bool],
        limit: int,
        token: str | None,
    ) -> tuple[list[Sandbox], str | None]:
        """The directory knows the newest first alone: read whole, turned round."""
        found: list[Sandbox] = []
        cursor, scanned = None, 0
        while scanned < _SCANNED_MAX:
            page = await self._directory.page(
                tenant, metadata=metadata, limit=_PAGE_MAX, cursor=cursor
            )
            found += [sandbox for sandbox in page.sandboxes if fits(sandbox)]
            cursor, scanned = page.next_cursor, scanned + len(page.sandboxes)
            if cursor is None:
                break
        found.sort(key=lambda sandbox: (sandbox.created_at, sandbox.id))
        if token is not None:
            at, _, name = token.partition("~")
            found = [each for each in found if (each.created_at, each.id) > (at, name)]
        page_of, rest = found[:limit], found[limit:]
        last = page_of[-1] if page_of and rest else None
        return page_of, None if last is None else f"{last.created_at}~{last.id}"


def _states(given: list[str]) -> set[SandboxState]:
    """Of `state=running,paused`, or each by itself; both where none is given."""
    named = {word for text in given for word in text.split(",") if word}
    if not named <= {"running", "paused"}:
        raise InvalidRequest("is running or paused", field="state")
    return {SandboxState(word) for word in named or ("running", "paused")}


def _metadata(text: str | None) -> dict[str, str]:
    """Pairs of a query within the query, whose parts clients have quoted once more."""
    return {
        unquote(name): unquote(value)
        for name, value in parse_qsl(text or "", keep_blank_values=True)
    }
