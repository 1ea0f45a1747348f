"""What gateway and node say to each other about images and volumes.

The node listens on a unix stream socket of its own beside the agent's. Frames are those of
`model/agent.py`; one connection carries one call:

    gateway                                   node
    CALL  one of `Call`            ──▶
    [DATA … END]                   ──▶        Build (the context, a tar), Import (a root file system)
                                   ◀──        [EVENT `Progress` …]   Build, Import, Pull, Push
                                   ◀──        [DATA …]               Export
                                   ◀──        REPLY answer | ERROR `Problem`

To give a call up, close the connection: a build's step is ended, and nothing is left.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from sandboxd.model.mounts import DataMount, VolumeMount
from sandboxd.model.stored import ImageTag, ImageTransfer, VolumeRequest


class _Call(Struct, frozen=True, kw_only=True, tag_field="call", forbid_unknown_fields=True):
    tenant: str


class ListImages(_Call, frozen=True, kw_only=True):
    """REPLY `ImageList`."""


class GetImage(_Call, frozen=True, kw_only=True):
    """REPLY `ImageDetail`."""

    name: str


class RemoveImage(_Call, frozen=True, kw_only=True):
    """REPLY nil."""

    name: str


class TagImage(_Call, frozen=True, kw_only=True):
    """REPLY `ImageInfo`."""

    request: ImageTag


class PullImage(_Call, frozen=True, kw_only=True):
    """EVENT, REPLY `ImageInfo`; as are the next three."""

    request: ImageTransfer


class PushImage(_Call, frozen=True, kw_only=True):
    request: ImageTransfer


class BuildImage(_Call, frozen=True, kw_only=True):
    name: str
    dockerfile: Annotated[str, Meta(max_length=1 << 20)] | None = None
    """None: it is in the context, as `Dockerfile`."""
    arguments: dict[str, str] = {}
    target: str = ""


class ImportImage(_Call, frozen=True, kw_only=True):
    name: str


class ExportImage(_Call, frozen=True, kw_only=True):
    """DATA (an archive that `docker load` takes), REPLY nil."""

    name: str


class CreateVolume(_Call, frozen=True, kw_only=True):
    """REPLY `VolumeInfo`."""

    request: VolumeRequest


class ListVolumes(_Call, frozen=True, kw_only=True):
    """REPLY `VolumeList`."""


class RemoveVolume(_Call, frozen=True, kw_only=True):
    """REPLY nil."""

    name: str


class Check(_Call, frozen=True, kw_only=True):
    """Whether a run may have these. REPLY `Holder`."""

    image: str | None = None
    volumes: list[VolumeMount] = []
    data: list[DataMount] = []


class Holder(Struct, frozen=True):
    node: str
    """Id of the node that answers, as in its `NodeRecord`."""


Call = (
    ListImages
    | GetImage
    | RemoveImage
    | TagImage
    | PullImage
    | PushImage
    | BuildImage
    | ImportImage
    | ExportImage
    | CreateVolume
    | ListVolumes
    | RemoveVolume
    | Check
)
decode_call = msgspec.msgpack.Decoder(Call).decode
