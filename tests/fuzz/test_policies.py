"""Whatever an operator writes into a seccomp policy: a program that the kernel takes, or a
SettingsError; and our evaluator gives the verdicts that the kernel gives."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandboxd.native import compile_seccomp, eval_seccomp
from sandboxd.settings import Settings, SettingsError
from tests.fuzz import differential
from tests.fuzz.pace import fuzzed
from tests.fuzz.policies import NAMES, broken, policies, words

_RULE = {"names": ["read"], "action": "SCMP_ACT_ALLOW"}
_BASE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
}


def _policy(**rule: object) -> bytes:
    return json.dumps({**_BASE, "syscalls": [{**_RULE, **rule}]}).encode()


def _argument(**argument: object) -> bytes:
    return _policy(args=[{"index": 0, "op": "SCMP_CMP_EQ", "value": 1, **argument}])


@fuzzed
@given(document=broken() | st.binary(max_size=200))
@example(document=_argument(index=-1))
@example(document=_argument(index=1 << 32))
@example(document=_argument(index=6))
@example(document=_argument(value=-1))
@example(document=_argument(value=1 << 64))
@example(document=_argument(valueTwo=1 << 70))
@example(document=_policy(names=["read\0write"]))
@example(document=_policy(names=[], args=[{"index": 0, "op": "none", "value": 0}]))
@example(document=_policy(args=[{"index": i, "op": "SCMP_CMP_EQ", "value": 0} for i in range(7)]))
@example(document=_policy(action="SCMP_ACT_ERRNO"))  # as the default: libseccomp refuses it
@example(document=b'{"architectures":[],"syscalls":[]}')
@example(document=b"")
def test_any_policy_is_a_program_or_a_settings_error(document: bytes) -> None:
    try:
        program = compile_seccomp(document)
    except SettingsError as error:
        assert str(error).startswith("seccomp policy: ")
    else:
        assert len(program) % 8 == 0 and 0 < len(program) // 8 <= 4096
        eval_seccomp(program, differential.ARCHITECTURE, 0)


def test_name_with_a_nul_is_no_name() -> None:
    with pytest.raises(SettingsError):
        compile_seccomp(_policy(names=["read\0write"]))


known = st.sampled_from(NAMES).map(differential.number)
calls = st.lists(
    st.tuples(
        known | st.integers(0, 500) | st.integers(-(2**31), 2**31 - 1),
        st.lists(words, min_size=6, max_size=6),
    ),
    min_size=1, max_size=40,
)  # fmt: skip


@fuzzed
@given(policy=policies(), calls=calls, data=st.data())
def test_evaluator_agrees_with_the_kernel(
    oracle: differential.Oracle,
    policy: dict[str, object],
    calls: list[tuple[int, list[int]]],
    data: st.DataObject,
) -> None:
    try:
        program = compile_seccomp(json.dumps(policy).encode())
    except SettingsError:
        return  # rules that contradict each other
    near = _near(policy)
    if near:
        calls = calls + data.draw(st.lists(st.sampled_from(near), max_size=20))
    calls = [call for call in calls if call[0] not in differential.UNFILTERED]
    kernel = oracle.verdicts(program, calls)
    ours = [eval_seccomp(program, differential.ARCHITECTURE, nr, args) for nr, args in calls]
    assert [differential.kind(verdict) for verdict in ours] == kernel


def _near(policy: dict[str, object]) -> list[tuple[int, list[int]]]:
    """Calls on both sides of every condition."""
    found = []
    for rule in policy["syscalls"]:  # type: ignore[attr-defined]
        for name in rule["names"]:
            for edge in (-1, 0, 1):
                args = [0] * 6
                for condition in rule.get("args", []):
                    masked = condition["op"] == "SCMP_CMP_MASKED_EQ"
                    value = condition["valueTwo" if masked else "value"]
                    args[condition["index"]] = (value + edge) % (1 << 64)
                found.append((differential.number(name), args))
    return found


def test_evaluator_agrees_with_the_kernel_on_the_shipped_policy(
    oracle: differential.Oracle,
) -> None:
    """Of the shipped policy only what it refuses can be asked: the rest would be done."""
    directory = Settings().policy_path / "seccomp"
    for name in ("default.json", "gateway.json"):
        program = compile_seccomp((directory / name).read_bytes())
        refused = [
            (number, [argument] * 6)
            for number in sorted(set(range(1024)) - differential.UNFILTERED)
            for argument in (0, 1, (1 << 64) - 1)
            if differential.kind(
                eval_seccomp(program, differential.ARCHITECTURE, number, [argument] * 6)
            ).startswith("errno")
        ]
        assert len(refused) > 300
        ours = [
            differential.kind(eval_seccomp(program, differential.ARCHITECTURE, number, args))
            for number, args in refused
        ]
        assert oracle.verdicts(program, refused) == ours
