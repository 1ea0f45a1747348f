"""Images as OCI has them: descriptors, manifests, configurations. Plain data, hostile until checked."""

from typing import Annotated

from msgspec import Meta, Struct

Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
"""The one algorithm that is taken."""

ImageName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9/:@._+-]{0,254}\Z")]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_INDEX)
LAYERS = (
    OCI_LAYER,
    OCI_LAYER + "+gzip",
    OCI_LAYER + "+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
)
MANIFEST_MAX = 4 << 20
"""Bytes of a manifest, an index or a configuration."""
LAYERS_MAX = 400
"""Of one image: overlayfs takes 500 lower directories."""


class Platform(Struct, frozen=True, rename="lower"):
    architecture: str = ""
    os: str = ""
    variant: str = ""


class Descriptor(Struct, frozen=True, rename="camel", omit_defaults=True):
    media_type: str
    digest: Digest
    size: Annotated[int, Meta(ge=0)]
    platform: Platform | None = None
    annotations: dict[str, str] | None = None


class Manifest(Struct, frozen=True, rename="camel", kw_only=True):
    schema_version: int
    media_type: str = OCI_MANIFEST
    config: Descriptor
    layers: Annotated[list[Descriptor], Meta(max_length=LAYERS_MAX)]


class Index(Struct, frozen=True, rename="camel", kw_only=True):
    schema_version: int
    media_type: str = OCI_INDEX
    manifests: Annotated[list[Descriptor], Meta(max_length=1000)]


class RunConfig(Struct, frozen=True, rename="pascal", omit_defaults=True):
    """How the image's author meant it to run."""

    user: str = ""
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    working_dir: str = ""
    labels: dict[str, str] | None = None


class RootFs(Struct, frozen=True):
    diff_ids: list[Digest]
    type: str = "layers"


class History(Struct, frozen=True, omit_defaults=True):
    created: str | None = None
    created_by: str = ""
    comment: str = ""
    empty_layer: bool = False


class Config(Struct, frozen=True, kw_only=True):
    """An image's configuration document."""

    architecture: str = ""
    os: str = ""
    created: str | None = None
    config: RunConfig | None = None
    rootfs: RootFs
    history: list[History] | None = None


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An image of Debian packages: data of `policies/images/*.toml`."""

    name: str
    title: str
    suite: str
    packages: list[str] = []
    env: dict[str, str] = {}
    """Variables of every run in the image."""
