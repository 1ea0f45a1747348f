"""Images of a tenant as E2B's clients see them: templates, whose names have tags, and snapshots.

A template `name` with the tag `v1` is the image `name:v1`; without one the tag is `default`. Snapshots
are images below `snapshots/`; the note that the node wrote into each says of which sandbox it is.
"""

from collections.abc import Sequence
from uuid import UUID

from sandboxd.errors import NotFound, UnknownImage
from sandboxd.gateway.adapters.e2b.words import template_wanted
from sandboxd.gateway.context import Gateway
from sandboxd.model import images_wire as wire
from sandboxd.model.stored import ImageDetail, ImageInfo, ImageList, ImageTag

SNAPSHOTS = "snapshots/"
DEFAULT = "default"


def parted(name: str) -> tuple[str, str]:
    """Name and tag."""
    head, colon, tag = name.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (name, DEFAULT)


def build_id(digest: str) -> str:
    """The UUID that clients take for the id of a build: the head of the image's digest."""
    return str(UUID(hex=digest.removeprefix("sha256:")[:32]))


class Images:
    def __init__(self, gateway: Gateway) -> None:
        self._node, self._templates = gateway.node, gateway.templates

    async def all(self, tenant: str) -> list[ImageInfo]:
        return (await self._node.ask(wire.ListImages(tenant=tenant), ImageList)).images

    async def detail(self, tenant: str, name: str) -> ImageDetail:
        """Raises UnknownImage."""
        return await self._node.ask(wire.GetImage(tenant=tenant, name=name), ImageDetail)

    async def meant(self, tenant: str, name: str) -> ImageDetail | None:
        """The image of a template or snapshot; None: our own template. Raises NotFound."""
        wanted = template_wanted(name)
        if wanted is None:
            return None
        head, tag = parted(wanted)
        for candidate in (f"{head}:{tag}", wanted, f"{SNAPSHOTS}{head}:{tag}"):
            try:
                return await self.detail(tenant, candidate)
            except UnknownImage:
                continue
        made = await self._templates.get(tenant, wanted)  # by our own API
        if made is not None:
            return await self.detail(tenant, made.image)
        raise NotFound(f"template {name!r} was not found")

    async def tag(self, tenant: str, name: str, new: str) -> ImageInfo:
        """Raises UnknownImage, InvalidImage, QuotaExceeded."""
        call = wire.TagImage(tenant=tenant, request=ImageTag(name=name, new=new))
        return await self._node.ask(call, ImageInfo)

    async def tags(self, tenant: str, name: str) -> list[ImageInfo]:
        """The tenant's images of a name, whatever their tags."""
        head, _ = parted(name)
        return [
            image for image in await self.all(tenant)
            if not image.shared and parted(image.name)[0] == head
        ]  # fmt: skip

    async def remove(self, tenant: str, names: Sequence[str]) -> None:
        """Raises UnknownImage."""
        for name in names:
            await self._node.ask(wire.RemoveImage(tenant=tenant, name=name), type(None))
