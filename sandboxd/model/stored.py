"""Images, volumes and templates as the API shows them, and what it takes."""

from typing import Annotated

from msgspec import Meta, Struct

from sandboxd.model.image import ImageName
from sandboxd.model.mounts import VolumeName
from sandboxd.model.run import Name


class ImageInfo(Struct, frozen=True, kw_only=True):
    name: str
    digest: str
    created_at: str | None
    layers: int
    size: int
    """Bytes of its layers, as they are transferred."""
    shared: bool
    """The operator's, for every tenant; not to be removed or renamed by one."""


class ImageList(Struct, frozen=True, kw_only=True):
    images: list[ImageInfo]


class ImageDetail(Struct, frozen=True, kw_only=True):
    name: str
    digest: str
    created_at: str | None
    size: int
    env: list[str]
    workdir: str
    command: list[str]
    """Entry point and command together, as its author meant it to run."""
    labels: dict[str, str]
    history: list[str]
    """What made each step, the first one first."""


class ImageTag(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/images/tag`."""

    name: ImageName
    new: ImageName


class ImageTransfer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/images/pull` and `/push`."""

    name: ImageName
    """To pull: with its registry. To push: the local name."""
    remote: ImageName | None = None
    """To push: the name with its registry."""
    local: ImageName | None = None
    """To pull: what it is called here; its own name without the registry if not given."""


class VolumeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/volumes`."""

    name: VolumeName
    size: Annotated[int, Meta(ge=8 << 20, le=1 << 44)]
    """Bytes, of the whole file system: what can never be exceeded."""


class VolumeInfo(Struct, frozen=True, kw_only=True):
    name: str
    size: int
    created_at: str


class VolumeList(Struct, frozen=True, kw_only=True):
    volumes: list[VolumeInfo]


class PoolBounds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many sandboxes are kept built ahead; between the two, by how many were lately asked for."""

    min: Annotated[int, Meta(ge=0, le=64)] = 0
    max: Annotated[int, Meta(ge=0, le=256)] = 8


class TemplateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `PUT /v1/templates/{name}`."""

    image: ImageName
    base: Name = "default"
    """The operator's template that gives filters, cores and limits."""
    pool: PoolBounds = PoolBounds()


class TemplateInfo(Struct, frozen=True, kw_only=True):
    name: str
    image: str
    base: str
    pool: PoolBounds
    shared: bool
    """The operator's."""


class TemplateList(Struct, frozen=True, kw_only=True):
    templates: list[TemplateInfo]
