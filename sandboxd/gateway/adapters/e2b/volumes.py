"""Volumes: file systems of a tenant's that sandboxes may have mounted."""

from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandboxd.errors import InvalidRequest, NotFound
from sandboxd.gateway.adapters.e2b.bodies import Bodies, answer, nothing
from sandboxd.gateway.context import Gateway
from sandboxd.model import images_wire as wire
from sandboxd.model.mounts import VolumeName
from sandboxd.model.stored import VolumeInfo, VolumeList, VolumeRequest

SIZE = 1 << 30
"""Bytes of a volume: clients do not say."""


class NewVolume(Struct, frozen=True):
    name: VolumeName
    size: Annotated[int, Meta(ge=8 << 20, le=1 << 44)] = SIZE


class Volumes:
    def __init__(self, gateway: Gateway, bodies: Bodies) -> None:
        self._node, self._bodies = gateway.node, bodies

    def routes(self) -> list[Route]:
        return [
            Route("/volumes", self.all, methods=["GET"]),
            Route("/volumes", self.create, methods=["POST"]),
            Route("/volumes/{name}", self.one, methods=["GET"]),
            Route("/volumes/{name}", self.remove, methods=["DELETE"]),
        ]

    async def all(self, request: Request) -> Response:
        found = await self._all(request.scope["tenant"])
        return answer([{"volumeID": each.name, "name": each.name} for each in found])

    async def create(self, request: Request) -> Response:
        wanted = await self._bodies.json(request, NewVolume)
        call = wire.CreateVolume(
            tenant=request.scope["tenant"],
            request=VolumeRequest(name=wanted.name, size=wanted.size),
        )
        return answer(_shown(await self._node.ask(call, VolumeInfo)), 201)

    async def one(self, request: Request) -> Response:
        for each in await self._all(request.scope["tenant"]):
            if each.name == request.path_params["name"]:
                return answer(_shown(each))
        raise NotFound("there is no such volume")

    async def remove(self, request: Request) -> Response:
        name = request.path_params["name"]
        if not name:
            raise InvalidRequest("say which volume", field="name")
        call = wire.RemoveVolume(tenant=request.scope["tenant"], name=name)
        await self._node.ask(call, type(None))
        return nothing()

    async def _all(self, tenant: str) -> list[VolumeInfo]:
        return (await self._node.ask(wire.ListVolumes(tenant=tenant), VolumeList)).volumes


def _shown(volume: VolumeInfo) -> dict[str, Any]:
    """The token would open the contents from outside, which is not offered."""
    return {"volumeID": volume.name, "name": volume.name, "token": ""}
