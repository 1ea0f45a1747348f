"""Dockerfiles as text: what is read, what is refused and on which line, and that nothing else happens."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.drivers.graph.builder.dockerfile import KEYWORDS, instructions, parse
from sandboxd.drivers.graph.builder.ignore import Ignored, matches
from sandboxd.drivers.graph.builder.steps import Copy, Run, Scope, outer_arguments
from sandboxd.drivers.graph.builder.words import expand, pairs, words
from sandboxd.errors import InvalidDockerfile
from sandboxd.model.image import RunConfig

VARIABLES = {"A": "one", "B": "two words", "EMPTY": ""}


def test_lines_are_joined_and_counted() -> None:
    text = "# a comment\nFROM a AS x\nRUN one \\\n  # between\n\n  two \\\n  && three\n\ncopy a b\n"
    file = parse(text)
    assert [(s.line, s.keyword, s.text) for s in file.stages[0].steps] == [
        (3, "RUN", "one two && three"),
        (9, "COPY", "a b"),
    ]
    assert (file.stages[0].name, file.stages[0].base) == ("x", "a")


def test_another_escape_leaves_backslashes_alone() -> None:
    text = "# escape=`\nFROM a\nRUN dir c:\\ `\n  b\n"
    assert parse(text).stages[0].steps[0].text == "dir c:\\ b"


def test_the_json_form_is_told_from_a_shell_line() -> None:
    steps = parse('FROM a\nRUN ["a b", "c"]\nRUN [ -f x ]\nCMD ["x"]').stages[0].steps
    assert [step.words for step in steps] == [["a b", "c"], None, ["x"]]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "no FROM"),
        ("FROM a\n\nFETCH b\n", 3, "unknown instruction 'FETCH'"),
        ("FROM a\nEXPOSE 80\n", 2, "unknown instruction 'EXPOSE'"),
        ("RUN x\nFROM a\n", 1, "before the first FROM"),
        ("FROM a\nRUN \\\n", 2, "without arguments"),
        ("FROM a AS b\nFROM b AS b\n", 2, "already"),
        ("FROM a b\n", 1, "FROM image"),
        ("FROM a\nCOPY --link a b\n", 2, "--link is not supported"),
        ("FROM a\nRUN --mount=type=cache x\n", 2, "--mount is not supported"),
        ("FROM a\nRUN <<EOF\nx\nEOF\n", 2, "here-documents"),
        ("FROM a\nENV\n", 2, "without arguments"),
        ("FROM a\nCOPY a\n", 2, "needs a source"),
        ("FROM a\nCOPY a b c\n", 2, "must end in /"),
        ("FROM a\nADD http://x/y z\n", 2, "only local files"),
        ("FROM a\nENV a='b\n", 2, "without its end"),
        ("FROM a\nENV a=${b\n", 2, "without its }"),
        ("FROM a\nENV a=${b:?c}\n", 2, "only :- and :+"),
        ("FROM a\nCOPY --chmod=9 a b\n", 2, "octal"),
        ("FROM a\nUSER a b\n", 2, "USER name"),
        ("FROM a\nARG 1=2\n", 2, "argument's name"),
    ],
)
def test_faults_name_their_line(text: str, line: int, what: str) -> None:
    with pytest.raises(InvalidDockerfile) as caught:
        scope = Scope(RunConfig(), {}, {})
        for step in parse(text).stages[0].steps:
            scope.apply(step)
    assert caught.value.line == line
    assert what in caught.value.detail
    assert f"line {line}:" in caught.value.detail


def scope(text: str, base: RunConfig | None = None, **given: str) -> tuple[Scope, list[object]]:
    file = parse(text)
    made = Scope(base or RunConfig(), given, outer_arguments(file.args, given))
    return made, [made.apply(step) for step in file.stages[0].steps]


def test_arguments_and_variables() -> None:
    text = (
        'ARG V=1\nARG W=${V}0\nFROM a\nARG V\nARG W=own\nARG X=$V-x\nENV V=env Y="$X y"\n'
        "RUN a\nLABEL l='$V' m=$Y"
    )
    made, actions = scope(text)
    run = actions[4]
    assert isinstance(run, Run)
    assert {name: run.env[name] for name in "VWXY"} == {
        "V": "env", "W": "own", "X": "1-x", "Y": "1-x y",
    }  # fmt: skip
    assert made.labels == {"l": "$V", "m": "1-x y"}
    assert made.config().env == ["V=env", "Y=1-x y"]
    _, actions = scope(text, V="given", X="given")
    run = actions[4]
    assert isinstance(run, Run)
    assert (run.env["X"], run.env["Y"], run.env["V"]) == ("given", "given y", "env")


def test_places_and_users_and_commands() -> None:
    made, actions = scope(
        "FROM a\nWORKDIR /x\nWORKDIR ../y/$Z\nCOPY a b/\nCOPY --from=s --chown=1:2 --chmod=755 a .\n"
        'USER me\nRUN x\nCMD go\nENTRYPOINT ["a"]',
        RunConfig(env=["Z=z"], cmd=["old"], entrypoint=["old"]),
    )
    copies = [action for action in actions if isinstance(action, Copy)]
    assert [(copy.target, copy.origin, copy.owner, copy.mode) for copy in copies] == [
        ("/y/z/b/", "", "", None), ("/y/z/", "s", "1:2", 0o755),
    ]  # fmt: skip
    run = next(action for action in actions if isinstance(action, Run))
    assert (run.argv, run.workdir, run.user) == (["/bin/sh", "-c", "x"], "/y/z", "me")
    assert made.config() == RunConfig(
        user="me", env=["Z=z"], entrypoint=["a"], cmd=None, working_dir="/y/z"
    )


def test_a_destination_never_leads_above_the_root() -> None:
    for text in ("../../etc/x", "/../../etc/x", "a/../../../etc/x"):
        _, actions = scope(f"FROM a\nCOPY a {text}")
        copy = actions[0]
        assert isinstance(copy, Copy) and copy.target == "/etc/x"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$A-${A}", "one-one"), (r"\$A", "$A"), ("'$A'", "$A"), ('"$A b"', "one b"),
        ("${NO:-x$A}", "xone"), ("${A:+y}", "y"), ("${EMPTY:-${A}}", "one"), ("$", "$"), ("$1", "$1"),
        (r'"\$A \"q\""', '$A "q"'), (r"a\ b", "a b"), ("$B", "two words"), ("\\", "\\"),
    ],
)  # fmt: skip
def test_expansion(text: str, value: str) -> None:
    assert expand(text, VARIABLES) == value


def test_pairs_keep_what_variables_bring_together() -> None:
    assert pairs("x=$B y='a b'", VARIABLES) == [("x", "two words"), ("y", "a b")]
    assert pairs("old the rest", VARIABLES) == [("old", "the rest")]


@pytest.mark.parametrize(
    ("rules", "out", "kept"),
    [
        (["*.py"], ["a.py"], ["a.pyc", "d/a.py"]),
        (["**/*.py"], ["a.py", "d/e/a.py"], ["a.pyc"]),
        (["d"], ["d", "d/e", "d/e/f"], ["de", "e/d"]),
        (["/d/*", "!d/keep"], ["d/x", "d/y/z"], ["d", "d/keep", "d/keep/x"]),
        (["*", "!a"], ["b", "b/c"], ["a"]),
        (["a?[b-d]"], ["axb", "a.d"], ["axe", "a/b"]),
        (["# x", "", "../up"], [], ["x", "up"]),
        (["a/**"], ["a/b", "a/b/c"], ["a"]),
    ],
)
def test_ignored(rules: list[str], out: list[str], kept: list[str]) -> None:
    ignored = Ignored(rules)
    assert [path for path in out if not ignored(path)] == []
    assert [path for path in kept if ignored(path)] == []


text = st.text(
    alphabet=st.sampled_from(string.ascii_letters + " \t\\\"'$${}[]=#:-+\n,/.*é\0")
    | st.characters(),
    max_size=200,
)
lines = st.lists(
    st.tuples(st.sampled_from([*KEYWORDS, "from", "EXPOSE", "#", ""]), text).map(" ".join),
    max_size=12,
).map("\n".join)


@given(lines | text)
def test_any_text_is_read_or_refused_with_a_line_that_it_has(text: str) -> None:
    try:
        file = parse(text)
        for stage in file.stages:
            scope = Scope(RunConfig(), {}, outer_arguments(file.args, {}))
            for step in stage.steps:
                scope.apply(step)
    except InvalidDockerfile as error:
        assert 1 <= error.line <= max(1, text.count("\n") + 1)
        return
    numbers = [step.line for stage in file.stages for step in (stage.start, *stage.steps)]
    assert numbers == sorted(set(numbers))


@given(
    st.lists(st.text(alphabet=string.ascii_letters + "é/.:", min_size=1), min_size=1, max_size=5)
)
def test_quoted_words_come_back(given: list[str]) -> None:
    quoted = " ".join(f'"{word}"' for word in given)
    assert [expand(word, {}) for word in words(quoted)] == given


@given(text, st.dictionaries(st.sampled_from(["A", "B"]), text))
def test_expansion_ends(text: str, variables: dict[str, str]) -> None:
    try:
        expand(text, variables)
    except ValueError:
        return


@given(st.lists(text, max_size=4), text)
def test_any_rule_is_read(rules: list[str], path: str) -> None:
    Ignored(rules)(path)
    matches(path, "x")


def test_wildcards_cost_no_more_than_their_length() -> None:
    """As regular expressions these would take longer than the universe has."""
    assert not Ignored(["**/" * 100 + "x"])("a/" * 100 + "y")
    assert not matches("*a" * 100 + "b", "a" * 255)


@given(st.text(alphabet="ab*?[]-^!\\", max_size=8), st.text(alphabet="ab-", max_size=4))
def test_a_pattern_without_wildcards_is_the_name(pattern: str, name: str) -> None:
    if not set(pattern) & set("*?[\\"):
        assert matches(pattern, name) is (pattern == name)


def test_too_much_is_refused() -> None:
    with pytest.raises(InvalidDockerfile, match="more than"):
        parse("FROM a\n" * 6000)
    assert len(list(instructions("RUN a\n" * 100))) == 100
