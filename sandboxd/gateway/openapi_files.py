"""The operations on files of sandboxes that live, for the OpenAPI document."""

from typing import Any

from msgspec import Struct

from sandboxd.errors import NoSpace
from sandboxd.gateway.api.sandbox_lines import NDJSON
from sandboxd.gateway.openapi_sandboxes import INSIDE, OF_ONE, ONE
from sandboxd.gateway.operations import Errors, Operations, flag, number, parameter
from sandboxd.gateway.sessions.ranges import RangeNotSatisfiable
from sandboxd.model.agent import Removed, Written
from sandboxd.model.session import FileInfo, FileList
from sandboxd.model.session_api import (
    BatchRequest,
    DirectoryRequest,
    ModeRequest,
    MoveRequest,
    SignedUrl,
    SignRequest,
)

FILE_TYPES: tuple[type[Struct], ...] = (
    FileInfo, FileList, Removed, Written, BatchRequest, DirectoryRequest, MoveRequest, ModeRequest,
    SignRequest, SignedUrl,
)  # fmt: skip

_FILES = f"{ONE}/files"
_OCTETS = "application/octet-stream"
_TAR = "application/x-tar"

_OF_BYTES: Errors = (*OF_ONE, NoSpace)
_bytes = Operations(OF_ONE, _OF_BYTES)
_signed = Operations(OF_ONE, _OF_BYTES, open=True)

FILE_OPERATIONS = (
    INSIDE(
        f"GET {_FILES}",
        "list_files",
        "What is below a directory",
        FileList,
        parameters=("path", "path_base64", "depth", "files_limit", "files_cursor"),
    ),
    INSIDE(
        f"DELETE {_FILES}",
        "remove_file",
        "Remove a file, or with `recursive` a directory",
        Removed,
        parameters=("path", "path_base64", "recursive"),
    ),
    INSIDE(
        f"GET {_FILES}/stat",
        "stat_file",
        "What there is to say of a file",
        FileInfo,
        parameters=("path", "path_base64", "follow"),
    ),
    INSIDE(
        f"GET {_FILES}/content",
        "read_file",
        "A file, or the part of it that `Range` names",
        {200: None, 206: None},
        RangeNotSatisfiable,
        media=_OCTETS,
        parameters=("path", "path_base64", "Range", "If-Range"),
    ),
    _bytes(
        f"PUT {_FILES}/content",
        "write_file",
        "The body becomes the file, whole or not at all; `append` and `offset` write into it",
        FileInfo,
        parameters=("path", "path_base64", "mode", "append", "offset", "parents"),
        also=(_OCTETS,),
    ),
    INSIDE(
        f"GET {_FILES}/archive",
        "read_archive",
        "A directory as tar",
        media=_TAR,
        parameters=("path", "path_base64"),
    ),
    _bytes(
        f"PUT {_FILES}/archive",
        "write_archive",
        "Unpack a tar into a directory",
        status=204,
        parameters=("path", "path_base64"),
        also=(_OCTETS,),
    ),
    INSIDE(
        f"POST {_FILES}/batch",
        "write_files",
        "Many small files in one request",
        Written,
        request=BatchRequest,
    ),
    INSIDE(
        f"POST {_FILES}/directory",
        "make_directory",
        "Make a directory and its parents",
        FileInfo,
        request=DirectoryRequest,
    ),
    INSIDE(f"POST {_FILES}/move", "move_file", "Move or rename", FileInfo, request=MoveRequest),
    INSIDE(
        f"POST {_FILES}/mode",
        "change_mode",
        "Change permission bits",
        FileInfo,
        request=ModeRequest,
    ),
    INSIDE(
        f"POST {_FILES}/sign",
        "sign_file",
        "An address that reads or writes one file without a key, until it expires",
        SignedUrl,
        status=201,
        request=SignRequest,
    ),
    INSIDE(
        f"GET {_FILES}/watch",
        "watch_files",
        "Changes below a directory, as they happen",
        media=NDJSON,
        parameters=("path", "path_base64", "recursive"),
    ),
    _signed(
        "GET /v1/signed/{token}",
        "read_signed",
        "The file of a signed address",
        {200: None, 206: None},
        RangeNotSatisfiable,
        media=_OCTETS,
        parameters=("Range", "If-Range"),
    ),
    _signed(
        "PUT /v1/signed/{token}",
        "write_signed",
        "The body becomes the file of a signed address",
        FileInfo,
        also=(_OCTETS,),
    ),
)

FILE_PARAMETERS: dict[str, dict[str, Any]] = {
    "token": parameter("token", "path", pattern="^[A-Za-z0-9_-]+$"),
    "path": parameter("path", "query", "Absolute, or relative to /work.", minLength=1),
    "path_base64": parameter(
        "path_base64", "query", "The path, where it is not UTF-8; instead of `path`."
    ),
    "depth": number("depth", "query", "Levels of directories.", 1, 64),
    "files_limit": number("limit", "query", "Of one page.", 1, 10_000),
    "files_cursor": parameter("cursor", "query", "`next_cursor` of the page before."),
    "recursive": flag("recursive", "Everything below too."),
    "follow": flag("follow", "What a symbolic link points at, not the link."),
    "append": flag("append", "Write at the end of the file; not atomic."),
    "parents": flag("parents", "Make the directories that are missing."),
    "offset": number(
        "offset", "query", "Write into the file from here on; not atomic.", 0, 1 << 62
    ),
    "mode": parameter("mode", "query", "Permission bits, octal.", pattern="^[0-7]{1,3}$"),
    "Range": parameter("Range", "header", "RFC 9110: one range of bytes."),
    "If-Range": parameter("If-Range", "header", "The ETag of what has come already."),
}
