"""Problem packages: what the format says is what is judged, and hostile archives are refused."""

import contextlib
import io
import os
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.judge.archive import PackageError, Rules, from_directory, from_zip
from sandboxd.judge.package import TimeRule, load
from sandboxd.model.submission import Floats, Program, Tokens
from tests.judge.packages import DIFFERENT, GUESS, SCORED, encoded, packed

RULES = Rules(total=1 << 20, file=1 << 18, files=50)


def test_a_legacy_pass_fail_problem():
    package = load(encoded(DIFFERENT))
    problem = package.problem
    assert (problem.title, problem.format) == ("Different", "legacy")
    assert [case.name for case in problem.cases] == ["sample/1", "secret/1", "secret/2"]
    assert problem.groups == []
    assert problem.stop_on_failure
    assert problem.checker == Tokens(case_sensitive=False)
    assert problem.limits.memory == 256 << 20
    assert package.time_limit is None
    assert package.data[problem.cases[0].input.digest] == b"10 12\n"
    expected = {example.path: example.expected for example in package.examples}
    assert expected["submissions/wrong_answer/int.c"] == ("WA", "PE")
    unknown = [example.path for example in package.examples if example.language is None]
    assert unknown == ["submissions/accepted/notes.unknown"]


def test_an_interactive_problem_of_2023_07():
    package = load(encoded(GUESS))
    problem = package.problem
    assert problem.title == "Guess"
    assert problem.interactor is not None
    assert (problem.interactor.language, problem.interactor.convention) == ("python", "icpc")
    assert package.time_limit == 1.0
    assert problem.limits.cpu_time == 1.0


def test_a_legacy_scoring_problem_with_a_validator_and_groups():
    problem = load(encoded(SCORED)).problem
    assert isinstance(problem.checker, Program)
    groups = {group.name: group for group in problem.groups}
    assert groups["sample"].ignored
    assert groups["secret"].aggregate == "sum"
    assert (groups["secret/a"].aggregate, groups["secret/a"].parent) == ("min", "secret")
    assert groups["secret/b"].stop
    assert [case.points for case in problem.cases] == [None, 40, 40, 60, 60]
    assert not problem.stop_on_failure


def test_groups_of_2023_07():
    tree = encoded(SCORED)
    tree = {name: data for name, data in tree.items() if not name.endswith("testdata.yaml")}
    tree["problem.yaml"] = b"name: x\nproblem_format_version: 2023-07\ntype: scoring\n"
    tree["data/secret/a/test_group.yaml"] = b"scoring: {score: 30, aggregation: min}\n"
    tree["data/secret/b/test_group.yaml"] = (
        b"scoring: {score: 70, aggregation: sum, require_pass: secret/a}\noutput_validator_args: -x 1\n"
    )
    with pytest.raises(PackageError, match="flags"):
        load(tree)
    tree["output_validator/check.cpp"] = tree["output_validators/check.cpp"]
    problem = load(tree).problem
    assert [case.checker_args for case in problem.cases][-1] == ["-x", "1"]
    groups = {group.name: group for group in problem.groups}
    assert (groups["secret/a"].points, groups["secret/a"].aggregate) == (30, "min")
    assert (groups["secret/b"].aggregate, groups["secret/b"].requires) == ("sum", ["secret/a"])
    assert groups["sample"].ignored


@pytest.mark.parametrize(
    ("flags", "checker"),
    [
        ("case_sensitive", Tokens(case_sensitive=True)),
        ("space_change_sensitive", Tokens(case_sensitive=False, space_sensitive=True)),
        ("float_tolerance 1e-4", Floats(absolute=1e-4, relative=1e-4, case_sensitive=False)),
        ("float_relative_tolerance 1e-4", Floats(absolute=0, relative=1e-4, case_sensitive=False)),
    ],
)
def test_flags_of_the_default_validator(flags, checker):
    tree = encoded(DIFFERENT) | {"problem.yaml": f"validator_flags: {flags}\n".encode()}
    assert load(tree).problem.checker == checker


def test_the_time_limit_is_chosen_as_the_format_says():
    assert TimeRule(to_limit=5, to_tle=2, resolution=1).limit(0.41) == 3
    assert TimeRule(to_limit=5, to_tle=2, resolution=1).limit(0.001) == 1
    assert TimeRule(to_limit=2, to_tle=1.5, resolution=0.1).limit(0.41) == pytest.approx(0.9)
    tree = encoded(DIFFERENT)
    assert load(tree | {".timelimit": b"4\n"}).time_limit == 4
    assert load(tree | {"domjudge-problem.ini": b"timelimit='2.5'\n"}).time_limit == 2.5


@pytest.mark.parametrize(
    "change",
    [
        {"problem.yaml": b""},
        {"problem.yaml": b"[1]"},
        {"problem.yaml": b"a: &x [1]\nb: *x\n"},
        {"problem.yaml": b"a: " + b"[" * 5000},
        {"problem.yaml": b"problem_format_version: 2099-01\n"},
        {"problem.yaml": b"type: multi-pass\nproblem_format_version: 2023-07\n"},
        {"problem.yaml": b"validation: custom interactive\n"},
        {"problem.yaml": b"limits: 7\n"},
        {"problem.yaml": b"limits: {memory: .nan}\n"},
        {"problem.yaml": b"limits: {time_multiplier: -1}\n"},
        {"problem.yaml": b"validator_flags: rm -rf\n"},
        {"problem.yaml": b"x" * 70_000},
        {"data/secret/9.in": b"1"},
        {"data/secret/testdata.yaml": b"grader_flags: always_accept\n"},
    ],
)
def test_a_package_that_makes_no_sense_is_refused_or_empty(change):
    tree = encoded(DIFFERENT) | change
    if change.get("problem.yaml") == b"":
        assert load(tree, "untitled").problem.title == "untitled"
        return
    if change.get("problem.yaml", b"").startswith(b"limits: 7"):
        with pytest.raises(PackageError, match="limits"):
            load(tree)
        return
    with pytest.raises(PackageError):
        load(tree)


def test_zip_with_and_without_a_directory_around_it():
    plain = from_zip(packed(DIFFERENT), RULES)
    assert from_zip(packed(DIFFERENT, "different/"), RULES) == plain == encoded(DIFFERENT)


def hostile(name, mode=0, data=b"x", method=zipfile.ZIP_STORED):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = method
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(info, data)
    return out.getvalue()


@pytest.mark.parametrize(
    "archive",
    [
        hostile("../x"),
        hostile("a/../../x"),
        hostile("/etc/passwd"),
        hostile("a//b"),
        hostile("a\\..\\b"),
        hostile("./x"),
        hostile("/".join("a" * 20)),
        hostile("x" * 300),
        hostile("link", stat.S_IFLNK | 0o777, b"/etc/passwd"),
        hostile("fifo", stat.S_IFIFO | 0o644),
        hostile("device", stat.S_IFCHR | 0o644),
        hostile("bomb", 0, b"\0" * (4 << 20), zipfile.ZIP_DEFLATED),
        hostile("lzma", 0, b"x", zipfile.ZIP_LZMA),
        packed({f"f{n}": b"" for n in range(60)}),
        packed({f"f{n}": b"\0" * (1 << 18) for n in range(5)}),
        packed(DIFFERENT)[:-30],
        b"",
        b"PK\x05\x06",
    ],
)  # fmt: skip
def test_hostile_archives_are_refused(archive):
    with pytest.raises(PackageError):
        from_zip(archive, RULES)


def test_a_name_twice_is_refused():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a", b"1")
        with pytest.warns(UserWarning):
            archive.writestr("a", b"2")
    with pytest.raises(PackageError, match="twice"):
        from_zip(out.getvalue(), RULES)


@given(st.binary(max_size=200), st.integers(0, 3000))
def test_no_damage_of_an_archive_is_anything_but_refused_or_read(noise, at):
    data = bytearray(packed(DIFFERENT))
    data[at : at + len(noise)] = noise
    with contextlib.suppress(PackageError):
        from_zip(bytes(data), RULES)


def test_a_directory_is_read_without_following_links(tmp_path: Path):
    for name, data in encoded(DIFFERENT).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert from_directory(tmp_path, RULES) == encoded(DIFFERENT)
    (tmp_path / "data/secret/9.in").symlink_to("/etc/passwd")
    with pytest.raises((PackageError, OSError)):
        from_directory(tmp_path, RULES)
    (tmp_path / "data/secret/9.in").unlink()
    os.mkfifo(tmp_path / "data/secret/fifo")
    with pytest.raises((PackageError, OSError)):
        from_directory(tmp_path, RULES)
