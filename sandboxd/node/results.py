"""Results as clients see them, from what the node knows of an ended program. Pure."""

import base64
import errno
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from sandboxd.model import FileContent, Outcome
from sandboxd.node.files import Brought
from sandboxd.node.outcome import Verdict
from sandboxd.node.sandbox import Ended

FileError = Literal["not_found", "not_regular", "too_large", "denied"]


class Texts(Struct, frozen=True):
    stdout: str
    stderr: str
    encoding: Literal["utf-8", "base64"]


def texts(stdout: bytes, stderr: bytes, *, cut_stdout: bool, cut_stderr: bool) -> Texts:
    """Both streams in one encoding: text where both are UTF-8, base64 otherwise.

    A character that the cap cut in two is left out; everything before it stays text.
    """
    try:
        return Texts(_decode(stdout, cut_stdout), _decode(stderr, cut_stderr), "utf-8")
    except UnicodeDecodeError:
        return Texts(base64.b64encode(stdout).decode(), base64.b64encode(stderr).decode(), "base64")


def _decode(data: bytes, cut: bool) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if cut and error.reason == "unexpected end of data":
            return data[: error.start].decode()
        raise


def outcome(
    verdict: Verdict, ended: Ended, stdout: bytes, stderr: bytes, *, cut: tuple[bool, bool]
) -> Outcome:
    """The end of one program. `cut` says of stdout and stderr whether there was more."""
    if verdict.reason is not None and verdict.exit_code is not None:
        stderr += f"sandboxd: {verdict.reason}\n".encode()
    text = texts(stdout, stderr, cut_stdout=cut[0], cut_stderr=cut[1])
    return Outcome(
        status=verdict.status,
        exit_code=verdict.exit_code,
        signal=verdict.signal,
        stdout=text.stdout,
        stderr=text.stderr,
        stdout_truncated=cut[0],
        stderr_truncated=cut[1],
        encoding=text.encoding,
        cpu_time=round(ended.facts.cpu_time, 6),
        wall_time=round(ended.facts.wall_time, 6),
        peak_memory=ended.peak_memory,
    )


def collected(
    files: Iterable[Brought],
) -> tuple[dict[str, FileContent], dict[str, FileError]]:
    """Collected files, and why the others did not come."""
    found: dict[str, FileContent] = {}
    errors: dict[str, FileError] = {}
    for file in files:
        if file.data is not None:
            found[file.name] = FileContent.of(file.data)
        else:
            errors[file.name] = file_error(file.errno)
    return found, errors


def file_error(number: int) -> FileError:
    if number in (errno.ENOENT, errno.ENOTDIR):
        return "not_found"
    if number in (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EXDEV):
        return "not_regular"
    if number == errno.EFBIG:
        return "too_large"
    return "denied"
