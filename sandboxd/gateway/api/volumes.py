"""`/v1/volumes`: file systems of a tenant that outlive sandboxes."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sandboxd.gateway.bodies import Budget, decode, read_json
from sandboxd.gateway.context import Gateway
from sandboxd.model import images_wire as wire
from sandboxd.model.stored import VolumeInfo, VolumeList, VolumeRequest

_JSON = "application/json"
_SMALL = 65_536
_request = msgspec.json.Decoder(VolumeRequest)


class Volumes:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._node = gateway, gateway.node
        self._budget = Budget(64 * _SMALL)

    async def list(self, request: Request) -> Response:
        found = await self._node.ask(wire.ListVolumes(tenant=request.scope["tenant"]), VolumeList)
        return Response(msgspec.json.encode(found), media_type=_JSON)

    async def create(self, request: Request) -> Response:
        timeout = self._gateway.settings.gateway.body_timeout
        with self._budget.share() as share:
            wanted = decode(_request, await read_json(request, share, _SMALL, timeout))
        call = wire.CreateVolume(tenant=request.scope["tenant"], request=wanted)
        made = await self._node.ask(call, VolumeInfo)
        return Response(msgspec.json.encode(made), 201, media_type=_JSON)

    async def delete(self, request: Request) -> Response:
        call = wire.RemoveVolume(tenant=request.scope["tenant"], name=request.path_params["name"])
        await self._node.ask(call, type(None))
        return Response(status_code=204)
