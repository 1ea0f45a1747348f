"""Which runs a warm interpreter may serve: those that ask for nothing it has already decided."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.model import FileContent, Job, Language, LimitOverrides, RunRequest, merge
from sandboxd.node.warmth import default_limits, shelf_name, shelves
from sandboxd.policy import load
from sandboxd.settings import Settings

POLICIES = load(Settings().policy_path)
PYTHON = POLICIES.languages["python"]
WARM, COLD = ("default+python", "default"), ("default",)
HARMLESS = st.text("ABCDEFGIJKQRSUVWXYZ_", min_size=1, max_size=8)
"""Names that begin like no variable which an interpreter reads."""


def taken(language: Language | None = PYTHON, **request: object) -> tuple[str, ...]:
    asked = RunRequest(language="python", source="", **request)  # type: ignore[arg-type]
    limits = merge(default_limits(POLICIES, PYTHON), asked.limits)
    job = Job(
        id="run_x",
        tenant="default",
        request=asked,
        template="default",
        limits=limits,
        created_at="",
    )
    return shelves(job, language, POLICIES)


def test_a_plain_run_takes_a_warm_interpreter_or_else_a_sandbox_of_its_template() -> None:
    assert taken() == WARM


def test_no_template_can_be_called_like_a_shelf() -> None:
    name = shelf_name(PYTHON)
    assert name not in POLICIES.templates
    assert name.split("+") == [PYTHON.template, PYTHON.name]


@pytest.mark.parametrize(
    "name",
    [
        "PYTHONPATH", "PYTHONHASHSEED", "PYTHON_ANYTHING_NEW", "LC_ALL", "LANG", "LANGUAGE", "LD_PRELOAD",
        "GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "TZ", "TZDIR", "HOME", "OPENSSL_CONF", "LOCPATH",
    ],
)  # fmt: skip
def test_a_variable_that_the_interpreter_reads_at_its_start_is_served_cold(name: str) -> None:
    assert taken(env={"A": "1", name: "x"}) == COLD


@given(st.dictionaries(HARMLESS, st.text(max_size=4)))
def test_other_variables_are_served_warm(env: dict[str, str]) -> None:
    assert taken(env=env) == WARM


@pytest.mark.parametrize(
    "limits",
    [{"open_files": 64}, {"stack": 1 << 20}, {"disk": 1 << 20}],
    ids=lambda x: next(iter(x)),
)
def test_another_rlimit_is_served_cold(limits: dict[str, int]) -> None:
    assert taken(limits=LimitOverrides(**limits)) == COLD


def test_what_the_control_group_holds_may_differ() -> None:
    limits = LimitOverrides(memory=64 << 20, pids=3, cpu_time=1, wall_time=2, output=5)
    assert taken(limits=limits) == WARM


def test_a_limit_that_repeats_the_default_is_served_warm() -> None:
    started_with = default_limits(POLICIES, PYTHON)
    assert taken(limits=LimitOverrides(stack=started_with.stack, disk=started_with.disk)) == WARM


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".local/lib/python3.11/site-packages/a.pth", COLD),
        (".local/x", COLD),
        (".localx", WARM),
        ("a/.local/x", WARM),
        ("sitecustomize.py", WARM),
        ("pyvenv.cfg", WARM),
    ],
)
def test_files_that_the_interpreter_looks_for_at_its_start_are_served_cold(
    path: str, expected: tuple[str, ...]
) -> None:
    assert taken(files={path: FileContent(text="")}) == expected


def test_everything_else_of_a_request_is_served_warm() -> None:
    request = {"args": ["-x"], "stdin": "text", "collect": ["out"], "interactive": True}
    assert taken(**request) == WARM


def test_a_command_and_a_language_without_warm_up_are_served_cold() -> None:
    assert taken(None) == COLD
    assert taken(msgspec.structs.replace(PYTHON, warm=None)) == COLD


def test_a_program_that_was_compiled_may_be_served_warm() -> None:
    compiled = msgspec.structs.replace(PYTHON, compile=POLICIES.languages["c"].compile)
    assert taken(compiled) == WARM


def test_what_a_command_has_decided_is_served_cold() -> None:
    warm = msgspec.structs.replace(PYTHON.warm, command=["x", "-m{memory}"], arguments=False)
    fixed = msgspec.structs.replace(PYTHON, warm=warm)
    assert taken(fixed) == WARM
    assert taken(fixed, args=["a"]) == COLD
    assert taken(fixed, limits=LimitOverrides(memory=64 << 20)) == COLD
    assert (
        taken(fixed, limits=LimitOverrides(memory=default_limits(POLICIES, PYTHON).memory)) == WARM
    )


def test_a_run_with_a_network_is_served_cold() -> None:
    assert taken(network="open") == ("default~network",)


def test_the_limits_it_starts_with_are_those_of_a_run_that_names_none() -> None:
    frugal = msgspec.structs.replace(PYTHON, limits=LimitOverrides(stack=1 << 20))
    assert default_limits(POLICIES, frugal).stack == 1 << 20
    assert taken(frugal) == COLD, "the run still has the stack of the shipped policy"
