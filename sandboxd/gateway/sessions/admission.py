"""What may be asked of sandboxes that live. Pure: no clock, no randomness, no I/O."""

import base64
import binascii
import re
import signal
from collections.abc import Mapping, Sequence

from sandboxd.errors import InvalidRequest, LimitAboveMaximum, UnknownTemplate
from sandboxd.gateway.mounts import check_mounts
from sandboxd.model import FileContent
from sandboxd.model.egress import SandboxNetwork, narrowed
from sandboxd.model.run import Name
from sandboxd.model.session import (
    NetworkChoice,
    ProcessRequest,
    SandboxRequest,
    SessionLimits,
)
from sandboxd.policy import Policies
from sandboxd.settings import SessionSettings

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_STRING = 131_071
"""Bytes of one argument or `NAME=value`: the kernel's MAX_ARG_STRLEN without its NUL."""
_ROOM = 2 << 20
"""Bytes of argv and environment together: a quarter of the usual stack limit."""
_PATH_MAX = 4095
_HELD = ("memory", "pids", "disk", "open_files")
DEFAULT_TEMPLATE: Name = "session"


def admit_sandbox(
    request: SandboxRequest, policies: Policies, settings: SessionSettings, tenant: str, cpus: float
) -> SessionLimits:
    """The limits with which the request may go to a node of `cpus` cores. Raises InvalidRequest or a
    kind of it, naming the field."""
    template = policies.templates.get(request.template or DEFAULT_TEMPLATE)
    if template is None or not template.session:
        raise UnknownTemplate(
            f"there is no template {request.template!r} for sandboxes", field="template"
        )
    check_environment(request.env)
    check_lifetime(request.timeout, settings)
    check_network(request.network, policies, tenant)
    check_limits(request.limits, policies, cpus)
    check_mounts(request.volumes, request.data)
    for name, text in request.metadata.items():
        _encoded(name, "metadata")
        _encoded(text, f"metadata.{name}")
    if request.key is not None:
        _encoded(request.key, "key")
    return request.limits


def check_limits(limits: SessionLimits, policies: Policies, cpus: float) -> None:
    """Raises LimitAboveMaximum."""
    for name in _HELD:
        value, most = getattr(limits, name), getattr(policies.limits.maximum, name)
        if value is not None and value > most:
            raise LimitAboveMaximum(
                f"{name} {value} is above the maximum {most}", field=f"limits.{name}"
            )
    if limits.cpus is not None and limits.cpus > cpus:
        raise LimitAboveMaximum(
            f"cpus {limits.cpus:g} is above the node's {cpus:g}", field="limits.cpus"
        )


def check_lifetime(timeout: float | None, settings: SessionSettings) -> None:
    if timeout is not None and timeout > settings.timeout_max:
        raise LimitAboveMaximum(
            f"timeout {timeout:g} is above the maximum {settings.timeout_max:g}", field="timeout"
        )


def check_network(asked: NetworkChoice | None, policies: Policies, tenant: str) -> None:
    """Raises InvalidRequest for what is not within a policy of this tenant's."""
    name = asked.policy if isinstance(asked, SandboxNetwork) else asked
    if name is None or name == "none":
        if isinstance(asked, SandboxNetwork) and asked.allow:
            raise InvalidRequest("there is nothing in none", field="network.allow")
        return
    policy = policies.egress.get(name)
    if policy is None or not policy.permits(tenant):
        raise InvalidRequest(f"there is no network {name!r} for you", field="network")
    if isinstance(asked, SandboxNetwork) and asked.allow is not None:
        try:
            narrowed(policy, asked.allow)
        except ValueError as error:
            raise InvalidRequest(str(error), field="network.allow") from None


def check_process(request: ProcessRequest) -> None:
    """Every argv and environment must be one that execve takes. Raises InvalidRequest."""
    if not request.command[0]:
        raise InvalidRequest("the command is empty", field="command.0")
    size = check_environment(request.env) + _strings(request.command)
    if size > _ROOM:
        raise InvalidRequest("arguments and environment are too large together", field="command")
    check_cwd(request.cwd)
    _encoded(request.tag, "tag")


def check_cwd(path: str) -> None:
    """Raises InvalidRequest."""
    cwd = _encoded(path, "cwd")
    if not cwd.startswith(b"/") or b"\0" in cwd or len(cwd) > _PATH_MAX:
        raise InvalidRequest("is an absolute path without NUL", field="cwd")


def check_environment(env: Mapping[str, str]) -> int:
    """Bytes that it takes. Raises InvalidRequest."""
    size = 0
    for name, value in env.items():
        if not _ENV_NAME.fullmatch(name):
            raise InvalidRequest(f"{name!r} is not a name of an environment variable", field="env")
        size += _string(f"{name}={value}", f"env.{name}")
    return size


def content(value: str | FileContent, field: str) -> bytes:
    """Bytes of a text or a content. Raises InvalidRequest."""
    if isinstance(value, str):
        return _encoded(value, field)
    if value.text is not None and value.base64 is None:
        return _encoded(value.text, field)
    try:
        return value.data()
    except ValueError as error:
        raise InvalidRequest(str(error), field=field) from None


def path(text: str | None, coded: str | None, field: str = "path") -> bytes:
    """A path of its two forms, of which one is given. Raises InvalidRequest."""
    if (text is None) == (coded is None):
        raise InvalidRequest(f"give exactly one of {field} and {field}_base64", field=field)
    if text is not None:
        name = _encoded(text, field)
    else:
        field = f"{field}_base64"
        try:
            name = base64.b64decode(coded or "", validate=True)
        except (binascii.Error, ValueError):
            raise InvalidRequest("not base64", field=field) from None
    if not 1 <= len(name) <= _PATH_MAX or b"\0" in name:
        raise InvalidRequest(f"a path has 1 to {_PATH_MAX} bytes and no NUL", field=field)
    return name


def signal_number(wanted: int | str) -> int:
    """1 to 64 of a number or a name. Raises InvalidRequest."""
    if isinstance(wanted, int):
        return wanted
    name = wanted.upper()
    try:
        return int(signal.Signals[name if name.startswith("SIG") else f"SIG{name}"])
    except KeyError:
        raise InvalidRequest(f"there is no signal {wanted!r}", field="signal") from None


def _strings(words: Sequence[str]) -> int:
    return sum(_string(word, f"command.{index}") for index, word in enumerate(words))


def _string(text: str, field: str) -> int:
    data = _encoded(text, field)
    if b"\0" in data:
        raise InvalidRequest("must not contain NUL", field=field)
    if len(data) > _MAX_STRING:
        raise InvalidRequest(f"has more than {_MAX_STRING} bytes", field=field)
    return len(data) + 9


def _encoded(text: str, field: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("must be valid Unicode", field=field) from None
