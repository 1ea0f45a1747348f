"""The shipped languages: they load, fit the operator's limits, and say how to prove themselves."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from sandboxd.model import Compile, Language, above_maximum, argv, merge
from sandboxd.policy import load
from sandboxd.settings import Settings, SettingsError

DIRECTORY = Settings().policy_path
POLICIES = load(DIRECTORY)
LANGUAGES = POLICIES.languages.values()
COMPILED = [language for language in LANGUAGES if language.compile]

SPINE = {"python", "c", "cpp", "bash", "java", "go", "rust", "node"}
PLACEHOLDER = re.compile(r"\{[^}]*\}")

each_language = pytest.mark.parametrize("language", LANGUAGES, ids=lambda x: x.name)
each_compiled = pytest.mark.parametrize("language", COMPILED, ids=lambda x: x.name)


def _compile(language: Language) -> Compile:
    assert language.compile is not None
    return language.compile


def test_every_language_of_the_spine_is_shipped() -> None:
    assert set(POLICIES.languages) >= SPINE


def test_names_and_aliases_lead_to_one_language_each() -> None:
    for language in LANGUAGES:
        for name in (language.name, *language.aliases):
            assert POLICIES.language(name) is language


def test_an_alias_of_two_languages_is_refused(tmp_path: Path) -> None:
    for kind in ("limits", "templates", "languages"):
        (tmp_path / kind).mkdir()
        for file in (DIRECTORY / kind).glob("*.toml"):
            (tmp_path / kind / file.name).write_text(file.read_text())
    perl = tmp_path / "languages" / "perl.toml"
    perl.write_text(perl.read_text().replace('aliases = ["pl"]', 'aliases = ["py"]'))
    with pytest.raises(SettingsError, match="py already names"):
        load(tmp_path)


@each_language
def test_run_limits_are_within_the_maximum(language: Language) -> None:
    template = POLICIES.templates[language.template]
    limits = merge(POLICIES.limits.defaults, template.limits, language.limits)
    assert above_maximum(limits, POLICIES.limits.maximum) is None


@each_compiled
def test_compile_limits_are_within_the_maximum(language: Language) -> None:
    limits = merge(POLICIES.limits.compile_defaults, _compile(language).limits)
    assert above_maximum(limits, POLICIES.limits.maximum) is None


@each_language
def test_commands_hold_no_placeholder_but_those_that_are_filled(language: Language) -> None:
    for command in (language.run, language.compile.command if language.compile else []):
        filled = argv(command, source=language.source, memory=1 << 28)
        assert [word for word in filled if PLACEHOLDER.search(word)] == []


@each_language
def test_programs_are_found_by_what_the_language_requires(language: Language) -> None:
    """What a command starts is required by path, or is an artifact of the compiler."""
    paths = [path for entry in language.requires for path in entry.split("|")]
    assert all(path.startswith("/") for path in paths)
    if language.compile is None:
        assert language.run[0] in paths
    else:
        program = language.compile.command[0]
        assert program in paths or any(Path(path).name == program for path in paths)
        artifact = language.run[0].removeprefix("./")
        assert artifact in language.compile.artifacts or language.run[0] in paths


@each_compiled
def test_a_program_started_by_name_is_on_the_compilers_path(language: Language) -> None:
    compile_ = _compile(language)
    if compile_.command[0].startswith("/"):
        assert compile_.command[0] in language.requires
        return
    searched = compile_.env["PATH"].split(":")
    assert {str(Path(path).parent) for path in language.requires[0].split("|")} <= set(searched)


@each_compiled
def test_artifacts_are_names_in_work_and_not_the_source(language: Language) -> None:
    runs_its_source = language.source in language.run
    for glob in _compile(language).artifacts:
        assert "/" not in glob
        assert fnmatch(language.source, glob) is runs_its_source


@each_language
def test_the_self_test_reads_stdin_and_prints(language: Language) -> None:
    assert language.self_test.source.strip()
    assert language.self_test.stdin.endswith("\n")
    assert language.self_test.stdout.endswith("\n")
    assert language.self_test.stdin != language.self_test.stdout


def test_a_language_is_available_by_either_of_two_paths() -> None:
    go = POLICIES.languages["go"]
    assert go.available({"/usr/bin/go"}.__contains__)
    assert go.available({"/usr/local/go/bin/go"}.__contains__)
    assert not go.available({"/usr/bin/gofmt"}.__contains__)


def test_a_language_is_unavailable_if_one_requirement_is_missing() -> None:
    rust = POLICIES.languages["rust"]
    assert rust.available({"/opt/rust/bin/rustc", "/usr/bin/cc"}.__contains__)
    assert not rust.available({"/opt/rust/bin/rustc"}.__contains__)


def test_argv_fills_source_and_memory_and_nothing_else() -> None:
    command = ["run", "{source}", "-m={memory}", "{other}"]
    assert argv(command, source="a.x", memory=4096) == ["run", "a.x", "-m=4096", "{other}"]


def test_the_jvm_learns_its_memory_from_the_limit() -> None:
    """It would see the whole machine's otherwise, and be killed with little live data."""
    java = POLICIES.languages["java"]
    assert "-XX:MaxRAM=4096" in argv(java.run, source=java.source, memory=4096)
    assert "-J-XX:MaxRAM=4096" in argv(_compile(java).command, source=java.source, memory=4096)
