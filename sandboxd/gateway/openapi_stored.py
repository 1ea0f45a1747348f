"""The operations on images, volumes and templates, for the OpenAPI document."""

from typing import Any

from msgspec import Struct

from sandboxd.errors import Conflict, InvalidRequest, NotFound, QuotaExceeded
from sandboxd.gateway.api.images import LINES
from sandboxd.gateway.operations import BODY, GUARDED, JSON, Operation
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

STORED_OPERATIONS = (
    Operation(
        path="/v1/images",
        method="get",
        id="list_images",
        summary="The tenant's images and the operator's",
        answers={200: (JSON, ImageList)},
    ),
    Operation(
        path="/v1/images/build",
        method="post",
        id="build_image",
        summary="Build an image from a Dockerfile; the body is its context, a tar. One Progress a line",
        also=_TAR,
        parameters=("image", "dockerfile", "target", "arg"),
        answers={200: (LINES, Progress)},
        errors=(*GUARDED, *BODY),
    ),
    Operation(
        path="/v1/images/import",
        method="post",
        id="import_image",
        summary="Make an image of a root file system, a tar in the body. One Progress a line",
        also=_TAR,
        parameters=("image",),
        answers={200: (LINES, Progress)},
        errors=(*GUARDED, *BODY),
    ),
    Operation(
        path="/v1/images/pull",
        method="post",
        id="pull_image",
        summary="Fetch an image from a registry that the operator allows. One Progress a line",
        request=ImageTransfer,
        answers={200: (LINES, Progress)},
        errors=(*GUARDED, *BODY),
    ),
    Operation(
        path="/v1/images/push",
        method="post",
        id="push_image",
        summary="Send an image to a registry that the operator allows. One Progress a line",
        request=ImageTransfer,
        answers={200: (LINES, Progress)},
        errors=(*GUARDED, *BODY),
    ),
    Operation(
        path="/v1/images/tag",
        method="post",
        id="tag_image",
        summary="Give an image another name",
        request=ImageTag,
        answers={200: (JSON, ImageInfo)},
        errors=(*GUARDED, *BODY, NotFound, QuotaExceeded),
    ),
    Operation(
        path="/v1/images/{name}",
        method="get",
        id="read_image",
        summary="An image by its name (slashes are part of it) or digest",
        parameters=("image_name",),
        answers={200: (JSON, ImageDetail)},
        errors=(*GUARDED, NotFound, InvalidRequest),
    ),
    Operation(
        path="/v1/images/{name}",
        method="delete",
        id="remove_image",
        summary="Take a name away; what is then unused is removed by the next collection",
        parameters=("image_name",),
        answers={204: ("", None)},
        errors=(*GUARDED, NotFound, InvalidRequest),
    ),
    Operation(
        path="/v1/volumes",
        method="get",
        id="list_volumes",
        summary="The tenant's volumes",
        answers={200: (JSON, VolumeList)},
    ),
    Operation(
        path="/v1/volumes",
        method="post",
        id="create_volume",
        summary="Make a volume of a fixed size",
        request=VolumeRequest,
        answers={201: (JSON, VolumeInfo)},
        errors=(*GUARDED, *BODY, Conflict, QuotaExceeded),
    ),
    Operation(
        path="/v1/volumes/{name}",
        method="delete",
        id="remove_volume",
        summary="Remove a volume that no sandbox has",
        parameters=("volume_name",),
        answers={204: ("", None)},
        errors=(*GUARDED, NotFound, Conflict),
    ),
    Operation(
        path="/v1/templates",
        method="get",
        id="list_templates",
        summary="The operator's templates and the tenant's",
        answers={200: (JSON, TemplateList)},
    ),
    Operation(
        path="/v1/templates/{name}",
        method="get",
        id="read_template",
        summary="A template of the tenant's",
        parameters=("template_name",),
        answers={200: (JSON, TemplateInfo)},
        errors=(*GUARDED, NotFound),
    ),
    Operation(
        path="/v1/templates/{name}",
        method="put",
        id="put_template",
        summary="Make or change a template: an image, what it runs under, how many are kept warm",
        request=TemplateRequest,
        parameters=("template_name",),
        answers={200: (JSON, TemplateInfo)},
        errors=(*GUARDED, *BODY, NotFound, Conflict, QuotaExceeded),
    ),
    Operation(
        path="/v1/templates/{name}",
        method="delete",
        id="remove_template",
        summary="Remove a template of the tenant's",
        parameters=("template_name",),
        answers={204: ("", None)},
        errors=(*GUARDED, NotFound),
    ),
)


def _in_path(pattern: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": pattern}
    return {"name": "name", "in": "path", "required": True, "schema": schema}


def _in_query(name: str, text: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": {"type": "string"}, **more}


STORED_PARAMETERS: dict[str, dict[str, Any]] = {
    "image_name": _in_path("^[A-Za-z0-9][A-Za-z0-9/:@._+-]{0,254}$"),
    "volume_name": _in_path("^[a-z0-9][a-z0-9_.-]{0,62}$"),
    "template_name": _in_path("^[a-z0-9][a-z0-9_.-]{0,63}$"),
    "image": _in_query("name", "What the image is called.", required=True),
    "dockerfile": _in_query("dockerfile", "The Dockerfile's text; else it is in the context."),
    "target": _in_query("target", "Build this stage instead of the last."),
    "arg": _in_query("arg", "`NAME=VALUE` for an ARG; may be repeated."),
}
