"""`/v1/templates`: the operator's, and a tenant's own, which put an image under one of them.

A run or sandbox that names a tenant's template is one that names its image; the pool keeps sandboxes of
it ahead, as many as the template says and lately were asked for.
"""

import re

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sandboxd.errors import Conflict, InvalidRequest, NotFound, UnknownTemplate
from sandboxd.gateway.bodies import Budget, decode, read_json
from sandboxd.gateway.context import Gateway
from sandboxd.model import images_wire as wire
from sandboxd.model.stored import PoolBounds, TemplateInfo, TemplateList, TemplateRequest

_JSON = "application/json"
_SMALL = 65_536
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_request = msgspec.json.Decoder(TemplateRequest)


class Templates:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._budget = Budget(64 * _SMALL)

    async def list(self, request: Request) -> Response:
        found = [
            TemplateInfo(
                name=template.name, image=template.image, base=template.name, shared=True,
                pool=PoolBounds(min=template.pool_size, max=max(template.pool_size, template.pool_max)),
            )
            for template in self._gateway.policies.templates.values()
        ]  # fmt: skip
        own = await self._gateway.templates.all(request.scope["tenant"])
        found += [_info(name, template) for name, template in own.items()]
        return _json(TemplateList(templates=found))

    async def one(self, request: Request) -> Response:
        tenant, name = request.scope["tenant"], request.path_params["name"]
        if request.method == "PUT":
            return await self._put(request, tenant, name)
        if request.method == "DELETE":
            if not await self._gateway.templates.drop(tenant, name):
                raise NotFound("there is no such template of yours")
            return Response(status_code=204)
        found = await self._gateway.templates.get(tenant, name)
        if found is None:
            raise NotFound("there is no such template of yours")
        return _json(_info(name, found))

    async def _put(self, request: Request, tenant: str, name: str) -> Response:
        policies = self._gateway.policies
        if not _NAME.fullmatch(name):
            raise InvalidRequest("is no template's name", field="name")
        if name in policies.templates:
            raise Conflict(f"{name} is the operator's", field="name")
        timeout = self._gateway.settings.gateway.body_timeout
        with self._budget.share() as share:
            wanted = decode(_request, await read_json(request, share, _SMALL, timeout))
        if wanted.base not in policies.templates:
            raise UnknownTemplate(f"there is no template {wanted.base!r}", field="base")
        if wanted.pool.min > wanted.pool.max:
            raise InvalidRequest("min is above max", field="pool.min")
        await self._gateway.node.ask(wire.Check(tenant=tenant, image=wanted.image), wire.Holder)
        await self._gateway.templates.put(tenant, name, wanted)
        return _json(_info(name, wanted))


def _info(name: str, template: TemplateRequest) -> TemplateInfo:
    return TemplateInfo(
        name=name, image=template.image, base=template.base, pool=template.pool, shared=False
    )


def _json(body: TemplateList | TemplateInfo) -> Response:
    return Response(msgspec.json.encode(body), media_type=_JSON)
