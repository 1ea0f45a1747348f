"""Compiles an OCI seccomp policy (JSON) to a kernel program, and asks programs what they answer."""

import platform
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from sandboxd.native import _native  # type: ignore[attr-defined]
from sandboxd.settings import SettingsError

ffi, lib = _native.ffi, _native.lib

_PROGRAM_MAX = 32_768  # 4,096 instructions (BPF_MAXINSNS) of 8 bytes
_WORD = (1 << 64) - 1
_MASKED_EQ = "SCMP_CMP_MASKED_EQ"
_COMPARISONS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    _MASKED_EQ: 7,
}
_ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}


_Name = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_]+\Z")]


class _Condition(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    index: Annotated[int, Meta(ge=0, le=5)]
    value: int
    op: str
    value_two: int = 0


class _Rule(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    names: Annotated[list[_Name], Meta(min_length=1)]
    action: str
    args: list[_Condition] = []
    errno_ret: int | None = None
    comment: str = ""


class _Policy(Struct, frozen=True, rename="camel"):
    default_action: str
    architectures: list[str]
    syscalls: list[_Rule]
    default_errno_ret: int | None = None
    comment: str = ""


def compile_seccomp(policy: bytes) -> bytes:
    """The program (struct sock_filter array) of an OCI policy, for this machine's architecture.

    System calls that libseccomp does not know are left to the default action. Raises SettingsError.
    """
    try:
        parsed = msgspec.json.decode(policy, type=_Policy)
    except msgspec.DecodeError as error:
        raise SettingsError(f"seccomp policy: {error}") from error
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    if architecture not in parsed.architectures:
        raise SettingsError(f"seccomp policy: not made for {architecture}")
    context = lib.sbx_policy_new(_action(parsed.default_action, parsed.default_errno_ret))
    if context == ffi.NULL:
        raise SettingsError("seccomp policy: libseccomp refuses the default action")
    try:
        for rule in parsed.syscalls:
            _add(context, rule)
        buffer = ffi.new("uint8_t[]", _PROGRAM_MAX + 1)
        size = lib.sbx_policy_program(context, buffer, _PROGRAM_MAX + 1)
        if size < 0:
            raise SettingsError(f"seccomp policy: no program, errno {-size}")
        return bytes(ffi.buffer(buffer, size))
    finally:
        lib.sbx_policy_free(context)


def _add(context: object, rule: _Rule) -> None:
    conditions = ffi.new("struct sbx_condition[]", len(rule.args))
    for target, source in zip(conditions, rule.args, strict=True):
        if source.op not in _COMPARISONS:
            raise SettingsError(f"seccomp policy: {rule.names[0]}: no comparison {source.op}")
        if not (0 <= source.value <= _WORD and 0 <= source.value_two <= _WORD):
            raise SettingsError(f"seccomp policy: {rule.names[0]}: no argument is that large")
        target.argument, target.op = source.index, _COMPARISONS[source.op]
        target.a, target.b = source.value, source.value_two
    action = _action(rule.action, rule.errno_ret)
    for name in rule.names:
        result = lib.sbx_policy_add(context, action, name.encode(), conditions, len(rule.args))
        if result < 0:
            raise SettingsError(f"seccomp policy: rule for {name}: errno {-result}")


def _action(name: str, errno: int | None) -> int:
    """The SCMP_ACT_* value; ERRNO without a number is EPERM, as OCI runtimes have it."""
    values = {
        "SCMP_ACT_ALLOW": 0x7FFF_0000,
        "SCMP_ACT_LOG": 0x7FFC_0000,
        "SCMP_ACT_ERRNO": 0x0005_0000 | (1 if errno is None else errno),
        "SCMP_ACT_KILL_PROCESS": 0x8000_0000,
        "SCMP_ACT_KILL_THREAD": 0,
        "SCMP_ACT_KILL": 0,
    }
    if name not in values:
        raise SettingsError(f"seccomp policy: action {name} is not supported")
    # The number shares a word with the action: a larger one would turn into another action.
    if errno is not None and not 0 <= errno < 4096:
        raise SettingsError(f"seccomp policy: {errno} is not an errno")
    return values[name]


def eval_seccomp(program: bytes, arch: int, nr: int, args: Sequence[int] = ()) -> int:
    """What the program answers (SECCOMP_RET_* with data) for a system call.

    `arch` is an AUDIT_ARCH_* value. Raises ValueError where the kernel would refuse the program.
    """
    six = ffi.new("uint64_t[6]", [*args, *(0,) * (6 - len(args))])
    verdict = ffi.new("uint32_t *")
    if lib.sbx_evaluate(program, len(program), arch, nr, six, verdict) != 0:
        raise ValueError("not a program that the kernel would take")
    return int(verdict[0])
