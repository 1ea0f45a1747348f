"""What a sandbox may have mounted besides its image."""

from typing import Annotated

from msgspec import Meta, Struct

from sandboxd.model.image import Digest

VolumeName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}\Z")]
MountPath = Annotated[
    str,
    Meta(
        pattern=r"^/(data|mnt|srv|work)(/[A-Za-z0-9_+@-][A-Za-z0-9_+@.-]{0,254}){0,16}\Z",
        max_length=1024,
    ),
]
"""At or below /data, /mnt or /srv, or below /work."""


class VolumeMount(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A volume of the tenant's in a sandbox."""

    name: VolumeName
    path: MountPath
    read_only: bool = False


class DataMount(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The files of an image of one layer, read-only."""

    digest: Digest
    path: MountPath
