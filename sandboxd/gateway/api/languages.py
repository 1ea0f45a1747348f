"""`GET /v1/languages`: what the operator's policies know and the live nodes can run."""

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from sandboxd.gateway.context import Gateway
from sandboxd.model import Language, Limits, merge


class LanguageInfo(Struct, frozen=True, kw_only=True):
    name: str
    title: str
    aliases: list[str]
    compiles: bool
    available: bool
    """Some live node offers it."""
    limits: Limits
    """What a run gets that names no limits."""


class LanguageList(Struct, frozen=True, kw_only=True):
    languages: list[LanguageInfo]


class Languages:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def list(self, request: Request) -> Response:
        offered = {name for node in await self._gateway.queue.nodes() for name in node.languages}
        known = self._gateway.policies.languages.values()
        body = LanguageList(languages=[self._info(x, x.name in offered) for x in known])
        return Response(msgspec.json.encode(body), media_type="application/json")

    def _info(self, language: Language, available: bool) -> LanguageInfo:
        policies = self._gateway.policies
        template = policies.templates[language.template]
        return LanguageInfo(
            name=language.name,
            title=language.title,
            aliases=language.aliases,
            compiles=language.compile is not None,
            available=available,
            limits=merge(policies.limits.defaults, template.limits, language.limits),
        )
