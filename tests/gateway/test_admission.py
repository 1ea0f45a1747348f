"""Admission is pure: whatever the request, it gives a job within the rules or names a field."""

import string

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from msgspec.structs import asdict

from sandboxd.errors import InvalidRequest, UnknownTemplate
from sandboxd.gateway.admission import admit
from sandboxd.gateway.ids import is_run_id, new_run_id, timestamp
from sandboxd.gateway.paths import check_path, check_tree
from sandboxd.model import FileContent, Job, LimitOverrides, RunRequest, Template
from sandboxd.policy import Policies

_PURE = profile(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
_PATH = st.one_of(
    _ANY_TEXT,
    st.lists(st.sampled_from(["", ".", "..", "a", "b", "main.py", "é" * 200]), max_size=4).map(
        "/".join
    ),
)
_CONTENT = st.builds(
    FileContent, text=st.none() | _ANY_TEXT, base64=st.none() | st.sampled_from(["YQ==", "!", ""])
)
_LIMITS = st.builds(
    LimitOverrides,
    cpu_time=st.none() | st.floats(0.1, 100),
    wall_time=st.none() | st.floats(0.1, 200),
    memory=st.none() | st.integers(4096, 2 << 30),
    disk=st.none() | st.integers(4096, 1 << 29),
    stack=st.none() | st.integers(65536, 1 << 30),
)
_REQUESTS = st.builds(
    RunRequest,
    language=st.sampled_from([None, "python", "py", "c", "cobol"]),
    source=st.none() | _ANY_TEXT,
    compile_args=st.lists(_ANY_TEXT, max_size=2),
    template=st.sampled_from([None, None, "default", "other"]),
    command=st.none() | st.lists(_ANY_TEXT, min_size=1, max_size=2),
    args=st.lists(_ANY_TEXT, max_size=3),
    stdin=_ANY_TEXT | _CONTENT,
    env=st.dictionaries(_ANY_TEXT | st.sampled_from(["PATH", "LD_PRELOAD", "a1"]), _ANY_TEXT),
    files=st.dictionaries(_PATH, _CONTENT, max_size=4),
    collect=st.lists(_PATH, max_size=3),
    limits=_LIMITS,
    compile_limits=_LIMITS,
    interactive=st.booleans(),
)


def _admit(request: RunRequest, policies: Policies) -> Job:
    return admit(
        request, policies, tenant="t", run_id=new_run_id(), created_at=timestamp(), reply_to=None
    )


@_PURE
@given(_REQUESTS)
def test_any_request_is_a_job_within_the_rules_or_names_its_fault(
    policies: Policies, request_: RunRequest
) -> None:
    try:
        job = _admit(request_, policies)
    except InvalidRequest as error:
        assert error.field and error.detail
        return
    maximum = asdict(policies.limits.maximum)
    assert all(value <= maximum[name] for name, value in asdict(job.limits).items())
    assert (job.request.language is None) != (job.request.template is None)
    assert job.request.language in (None, "python", "c")
    for path in (*job.request.files, *job.request.collect):
        parts = path.encode().split(b"/")
        assert not {b"", b".", b".."} & set(parts) and "\0" not in path
    for word in (*job.request.args, *job.request.env.values(), *(job.request.command or ())):
        assert "\0" not in word and word.encode() is not None
    assert job.reserve_memory >= job.limits.memory


@_PURE
@given(st.lists(st.text(string.ascii_letters + "./", min_size=1, max_size=6), max_size=6))
def test_accepted_paths_make_a_tree(paths: list[str]) -> None:
    good = []
    for path in paths:
        try:
            check_path(path, "f")
        except InvalidRequest:
            continue
        good.append(path)
    conflict = any(b.startswith(a + "/") for a in good for b in good)
    if conflict:
        with pytest.raises(InvalidRequest):
            check_tree(good)
    else:
        check_tree(good)


@pytest.mark.parametrize("path", ["a", "a/b.txt", "...", "a/..b", " ", "é/ü", "x" * 255])
def test_ordinary_paths_are_accepted(path: str) -> None:
    check_path(path, "f")


def test_cpu_time_alone_widens_wall_time_up_to_the_maximum(policies: Policies) -> None:
    request = RunRequest(language="python", source="", limits=LimitOverrides(cpu_time=50.0))
    assert _admit(request, policies).limits.wall_time == 50.0
    named = LimitOverrides(cpu_time=50.0, wall_time=5.0)
    request = RunRequest(language="python", source="", limits=named)
    assert _admit(request, policies).limits.wall_time == 5.0


def test_compiled_language_reserves_the_larger_memory(policies: Policies) -> None:
    job = _admit(RunRequest(language="c", source="int main;"), policies)
    assert job.compile_limits is not None
    assert job.reserve_memory == job.compile_limits.memory == 512 << 20
    assert job.limits.pids == 32
    assert job.reserve_cpu == 500


def test_a_template_of_sessions_is_none_for_runs(policies: Policies) -> None:
    policies.templates["session"] = Template(name="session", session=True)
    with pytest.raises(UnknownTemplate):
        _admit(RunRequest(template="session", command=["ls"]), policies)


def test_command_of_a_template(policies: Policies) -> None:
    job = _admit(RunRequest(template="default", command=["ls", "-l"]), policies)
    assert job.template == "default" and job.compile_limits is None


def test_ids_are_distinct_and_recognised() -> None:
    ids = {new_run_id() for _ in range(1000)}
    assert len(ids) == 1000 and all(map(is_run_id, ids))


def test_timestamp_has_milliseconds_and_z() -> None:
    moment = timestamp()
    assert len(moment) == len("2026-01-01T00:00:00.000Z") and moment.endswith("Z")
