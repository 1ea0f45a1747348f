"""Admission: what the client asked for becomes the job that a node runs, or is refused.

Everything here is pure: no clock, no randomness, no I/O.
"""

import re

from msgspec.structs import asdict, replace

from sandboxd.errors import InvalidRequest, LimitAboveMaximum, UnknownLanguage, UnknownTemplate
from sandboxd.gateway.mounts import check_mounts
from sandboxd.gateway.paths import check_path, check_tree
from sandboxd.model import FileContent, Job, Language, LimitOverrides, Limits, RunRequest, merge
from sandboxd.model.egress import NetworkRequest, narrowed
from sandboxd.model.stored import PoolBounds
from sandboxd.policy import Policies

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PAGE = 4_096
_PLAIN = "default"
"""The template of a run that names an image alone."""
_MAX_STRING = 131_071
"""Bytes of one argument or `NAME=value`: the kernel's MAX_ARG_STRLEN without its NUL."""
_ARGUMENTS_FLOOR = 131_072
_ARGUMENTS_CEILING = 6 << 20
_ARGUMENTS_RESERVED = 16_384
"""Bytes of the argument area left to what the language's policy and the sandbox add."""


def admit(
    request: RunRequest,
    policies: Policies,
    *,
    tenant: str,
    run_id: str,
    created_at: str,
    reply_to: str | None = None,
    pool: PoolBounds | None = None,
    node: str | None = None,
) -> Job:
    """The job for `request`. Raises InvalidRequest (or a kind of it) naming the field at fault."""
    language = _language(request, policies)
    asked = request.template or (_PLAIN if request.image is not None else "")
    template = policies.templates.get(language.template if language else asked)
    if template is None or template.session:
        raise UnknownTemplate(f"there is no template {request.template!r}", field="template")
    limits = _limits(request, policies, template.limits, language)
    compile_limits = _compile_limits(request, policies, language)
    _check_strings(request, limits, compile_limits)
    _check_files(request, language, limits, compile_limits)
    _check_stdin(request)
    _check_network(request, policies, tenant)
    check_mounts(request.volumes, request.data)
    return Job(
        id=run_id,
        tenant=tenant,
        request=replace(request, language=language.name) if language else request,
        template=template.name,
        limits=limits,
        compile_limits=compile_limits,
        created_at=created_at,
        reply_to=reply_to,
        pool=pool,
        node=node,
        reserve_cpu=round(template.cpus * 1000),
        reserve_memory=max(limits.memory, compile_limits.memory if compile_limits else 0),
    )


def _language(request: RunRequest, policies: Policies) -> Language | None:
    """The language of a request that names one; checks that the rest of the request fits."""
    if request.language is None:
        _check_command(request)
        return None
    if request.template is not None:
        raise InvalidRequest("give language or template, not both", field="template")
    if request.image is not None:
        raise InvalidRequest("an image needs a command, not a language", field="image")
    if request.command is not None:
        raise InvalidRequest("a language has its own command; use args", field="command")
    language = policies.language(request.language)
    if language is None:
        raise UnknownLanguage(f"there is no language {request.language!r}", field="language")
    if language.compile is None:
        _refuse_compilation(request, f"{language.name} is not compiled")
    given_as_file = language.source in request.files
    if request.source is None and not given_as_file:
        raise InvalidRequest(f"give source, or a file {language.source!r}", field="source")
    if request.source is not None and given_as_file:
        raise InvalidRequest("the source is given twice", field=f"files.{language.source}")
    return language


def _check_command(request: RunRequest) -> None:
    if request.template is None and request.image is None:
        raise InvalidRequest("give a language, a template or an image", field="language")
    if request.command is None:
        raise InvalidRequest("a template or image needs a command", field="command")
    if request.source is not None:
        raise InvalidRequest("source needs a language; use files", field="source")
    _refuse_compilation(request, "a command is not compiled")


def _refuse_compilation(request: RunRequest, why: str) -> None:
    if request.compile_args:
        raise InvalidRequest(why, field="compile_args")
    if request.compile_limits.given():
        raise InvalidRequest(why, field="compile_limits")


def _limits(
    request: RunRequest, policies: Policies, template: LimitOverrides, language: Language | None
) -> Limits:
    maximum = policies.limits.maximum
    _check_maximum(request.limits, maximum, "limits")
    own = language.limits if language else None
    limits = merge(policies.limits.defaults, template, own, request.limits)
    return _widen_wall_time(limits, request.limits, maximum)


def _compile_limits(
    request: RunRequest, policies: Policies, language: Language | None
) -> Limits | None:
    if language is None or language.compile is None:
        return None
    maximum = policies.limits.maximum
    _check_maximum(request.compile_limits, maximum, "compile_limits")
    own = language.compile.limits
    limits = merge(policies.limits.compile_defaults, own, request.compile_limits)
    return _widen_wall_time(limits, request.compile_limits, maximum)


def _check_maximum(given: LimitOverrides, maximum: Limits, field: str) -> None:
    """Only what the request asks for is held against it: a policy file may need more."""
    ceiling = asdict(maximum)
    for name, value in given.given().items():
        if value > ceiling[name]:
            raise LimitAboveMaximum(
                f"{name} {value} is above the maximum {ceiling[name]}", field=f"{field}.{name}"
            )


def _widen_wall_time(limits: Limits, given: LimitOverrides, maximum: Limits) -> Limits:
    """Who asks for CPU time alone means to be able to use it."""
    if given.wall_time is None and limits.cpu_time > limits.wall_time:
        wall_time = max(limits.wall_time, min(limits.cpu_time, maximum.wall_time))
        return replace(limits, wall_time=wall_time)
    return limits


def _check_strings(request: RunRequest, limits: Limits, compile_limits: Limits | None) -> None:
    """Every argv and environment must be one that execve takes."""
    if request.command is not None and not request.command[0]:
        raise InvalidRequest("the command is empty", field="command.0")
    environment = 0
    for name, value in request.env.items():
        if not _ENV_NAME.fullmatch(name):
            raise InvalidRequest(f"{name!r} is not a name of an environment variable", field="env")
        environment += _string(f"{name}={value}", f"env.{name}")
    command = environment
    for field, words in (("command", request.command or ()), ("args", request.args)):
        command += sum(_string(word, f"{field}.{index}") for index, word in enumerate(words))
    if command > _argument_room(limits):
        raise InvalidRequest("arguments and environment are too large together", field="args")
    compiler = sum(
        _string(word, f"compile_args.{index}") for index, word in enumerate(request.compile_args)
    )
    if compile_limits is not None and environment + compiler > _argument_room(compile_limits):
        raise InvalidRequest("arguments are too large together", field="compile_args")


def _argument_room(limits: Limits) -> int:
    """Bytes of argv and environment that execve takes: a quarter of the stack, within bounds."""
    room = max(_ARGUMENTS_FLOOR, min(_ARGUMENTS_CEILING, limits.stack // 4))
    return room - _ARGUMENTS_RESERVED


def _string(text: str, field: str) -> int:
    """What `text` takes of the argument area: its bytes, NUL and pointer."""
    size = _size(text, field)
    if "\0" in text:
        raise InvalidRequest("must not contain NUL", field=field)
    if size > _MAX_STRING:
        raise InvalidRequest(f"has more than {_MAX_STRING} bytes", field=field)
    return size + 9


def _check_files(
    request: RunRequest, language: Language | None, limits: Limits, compile_limits: Limits | None
) -> None:
    total = 0
    paths = list(request.files)
    if language is not None and request.source is not None:
        paths.append(language.source)
        total += _pages(_size(request.source, "source"))
    for path, content in request.files.items():
        field = f"files.{path}"
        check_path(path, field)
        total += _pages(_content_size(content, field))
    if len(paths) > 1:
        check_tree(paths)
    for index, path in enumerate(request.collect):
        check_path(path, f"collect.{index}")
    # The scratch file system is charged to the run's memory, so files have to fit in both.
    room = min(limits.disk, limits.memory)
    if compile_limits is not None:
        room = min(room, compile_limits.disk, compile_limits.memory)
    if total > room:
        raise InvalidRequest(
            f"the files take {total} bytes, the limits leave {room}",
            field="files" if request.files else "source",
        )


def _check_stdin(request: RunRequest) -> None:
    if request.interactive and request.stdin != "":
        raise InvalidRequest("an interactive run takes stdin from its stream", field="stdin")
    if isinstance(request.stdin, str):
        _size(request.stdin, "stdin")
    else:
        _content_size(request.stdin, "stdin")


def _check_network(request: RunRequest, policies: Policies, tenant: str) -> None:
    if request.network == "none":
        return
    asked = request.network
    name = asked if isinstance(asked, str) else asked.policy
    policy = policies.egress.get(name)
    if policy is None or not policy.permits(tenant):
        raise InvalidRequest(f"there is no network {name!r} for you", field="network")
    if isinstance(asked, NetworkRequest):
        try:
            narrowed(policy, asked.allow)
        except ValueError as error:
            raise InvalidRequest(str(error), field="network.allow") from None


def _content_size(content: FileContent, field: str) -> int:
    if content.text is not None and content.base64 is None:
        return _size(content.text, field)
    try:
        return len(content.data())
    except ValueError as error:
        raise InvalidRequest(str(error), field=field) from None


def _size(text: str, field: str) -> int:
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise InvalidRequest("must be valid Unicode", field=field) from None


def _pages(size: int) -> int:
    """What a file of `size` bytes takes of a tmpfs."""
    return -(-size // _PAGE) * _PAGE
