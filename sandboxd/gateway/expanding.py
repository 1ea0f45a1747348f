"""What a request means by the names in it: templates of its tenant's, and the node that has the rest."""

from typing import TypeVar

from msgspec.structs import replace

from sandboxd.gateway.context import Gateway
from sandboxd.model import RunRequest
from sandboxd.model import images_wire as wire
from sandboxd.model.session import SandboxRequest
from sandboxd.model.stored import PoolBounds

Asked = TypeVar("Asked", RunRequest, SandboxRequest)


async def expanded(
    gateway: Gateway, tenant: str, request: Asked
) -> tuple[Asked, PoolBounds | None, str | None]:
    """A request with its tenant's template put in, that template's pool, and the id of the node which
    has said that it has what is named; None if nothing of a node's is.

    Raises UnknownImage, NotFound, InvalidImage.
    """
    pool = holder = None
    name = request.template
    if name is not None and name not in gateway.policies.templates and request.image is None:
        template = await gateway.templates.get(tenant, name)
        if template is not None:
            request = replace(request, template=template.base, image=template.image)
            pool = template.pool
    if request.image is not None or request.volumes or request.data:
        call = wire.Check(
            tenant=tenant, image=request.image, volumes=request.volumes, data=request.data
        )
        holder = (await gateway.node.ask(call, wire.Holder)).node
    return request, pool, holder
