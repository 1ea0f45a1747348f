"""Names that E2B's clients give to templates, and the images that they mean."""

from sandboxd.errors import NotFound
from sandboxd.gateway.adapters.e2b.words import template_wanted
from sandboxd.gateway.context import Gateway
from sandboxd.model import images_wire as wire
from sandboxd.model.stored import ImageList


class Templates:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def image(self, tenant: str, name: str) -> str | None:
        """The image of a template or snapshot; None: our own template. Raises NotFound."""
        wanted = template_wanted(name)
        if wanted is None:
            return None
        known = await self._gateway.node.ask(wire.ListImages(tenant=tenant), ImageList)
        names = {image.name for image in known.images}
        for candidate in (wanted, f"{wanted}:default", f"{wanted}:latest"):
            if candidate in names:
                return candidate
        raise NotFound(f"template {name!r} was not found")
