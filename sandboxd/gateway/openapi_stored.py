"""The operations on images, volumes and templates, for the OpenAPI document."""

from typing import Any

from msgspec import Struct

from sandboxd.errors import Conflict, InvalidRequest, NotFound, QuotaExceeded
from sandboxd.gateway.api.images import LINES
from sandboxd.gateway.operations import Operations, parameter
from sandboxd.model.building import Progress
from sandboxd.model.stored import (
    ImageDetail,
    ImageInfo,
    ImageList,
    ImageTag,
    ImageTransfer,
    TemplateInfo,
    TemplateList,
    TemplateRequest,
    VolumeInfo,
    VolumeList,
    VolumeRequest,
)

STORED_TYPES: tuple[type[Struct], ...] = (
    ImageDetail,
    ImageInfo,
    ImageList,
    ImageTag,
    ImageTransfer,
    Progress,
    TemplateInfo,
    TemplateList,
    TemplateRequest,
    VolumeInfo,
    VolumeList,
    VolumeRequest,
)
_TAR = ("application/x-tar", "application/gzip", "application/zstd")

_call = Operations()

STORED_OPERATIONS = (
    _call("GET /v1/images", "list_images", "The tenant's images and the operator's", ImageList),
    _call(
        "POST /v1/images/build",
        "build_image",
        "Build an image from a Dockerfile; the body is its context, a tar. One Progress a line",
        Progress,
        media=LINES,
        parameters=("image", "dockerfile", "target", "arg"),
        also=_TAR,
    ),
    _call(
        "POST /v1/images/import",
        "import_image",
        "Make an image of a root file system, a tar in the body. One Progress a line",
        Progress,
        media=LINES,
        parameters=("image",),
        also=_TAR,
    ),
    _call(
        "GET /v1/images/export",
        "export_image",
        "An archive of an image, an OCI layout which `docker load` takes too",
        None,
        NotFound,
        InvalidRequest,
        media="application/x-tar",
        parameters=("exported",),
    ),
    _call(
        "POST /v1/images/pull",
        "pull_image",
        "Fetch an image from a registry that the operator allows. One Progress a line",
        Progress,
        media=LINES,
        request=ImageTransfer,
    ),
    _call(
        "POST /v1/images/push",
        "push_image",
        "Send an image to a registry that the operator allows. One Progress a line",
        Progress,
        media=LINES,
        request=ImageTransfer,
    ),
    _call(
        "POST /v1/images/tag",
        "tag_image",
        "Give an image another name",
        ImageInfo,
        NotFound,
        QuotaExceeded,
        request=ImageTag,
    ),
    _call(
        "GET /v1/images/{name:image_name}",
        "read_image",
        "An image by its name (slashes are part of it) or digest",
        ImageDetail,
        NotFound,
        InvalidRequest,
    ),
    _call(
        "DELETE /v1/images/{name:image_name}",
        "remove_image",
        "Take a name away; what is then unused is removed by the next collection",
        None,
        NotFound,
        InvalidRequest,
        status=204,
    ),
    _call("GET /v1/volumes", "list_volumes", "The tenant's volumes", VolumeList),
    _call(
        "POST /v1/volumes",
        "create_volume",
        "Make a volume of a fixed size",
        VolumeInfo,
        Conflict,
        QuotaExceeded,
        status=201,
        request=VolumeRequest,
    ),
    _call(
        "DELETE /v1/volumes/{name:volume_name}",
        "remove_volume",
        "Remove a volume that no sandbox has",
        None,
        NotFound,
        Conflict,
        status=204,
    ),
    _call(
        "GET /v1/templates",
        "list_templates",
        "The operator's templates and the tenant's",
        TemplateList,
    ),
    _call(
        "GET /v1/templates/{name:template_name}",
        "read_template",
        "A template of the tenant's",
        TemplateInfo,
        NotFound,
    ),
    _call(
        "PUT /v1/templates/{name:template_name}",
        "put_template",
        "Make or change a template: an image, what it runs under, how many are kept warm",
        TemplateInfo,
        NotFound,
        Conflict,
        QuotaExceeded,
        request=TemplateRequest,
    ),
    _call(
        "DELETE /v1/templates/{name:template_name}",
        "remove_template",
        "Remove a template of the tenant's",
        None,
        NotFound,
        status=204,
    ),
)


STORED_PARAMETERS: dict[str, dict[str, Any]] = {
    "image_name": parameter("name", "path", pattern="^[A-Za-z0-9][A-Za-z0-9/:@._+-]{0,254}$"),
    "volume_name": parameter("name", "path", pattern="^[a-z0-9][a-z0-9_.-]{0,62}$"),
    "template_name": parameter("name", "path", pattern="^[a-z0-9][a-z0-9_.-]{0,63}$"),
    "image": parameter("name", "query", "What the image is called.") | {"required": True},
    "exported": parameter("name", "query", "A name or digest.") | {"required": True},
    "dockerfile": parameter(
        "dockerfile", "query", "The Dockerfile's text; else it is in the context."
    ),
    "target": parameter("target", "query", "Build this stage instead of the last."),
    "arg": parameter("arg", "query", "`NAME=VALUE` for an ARG; may be repeated."),
}
