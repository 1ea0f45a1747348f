"""What somebody is told who asks for what cannot be, before anything is measured."""

import os
from pathlib import Path

import pytest

from loadtest import __main__ as tool


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("bench --clients 0", "0: expected a whole number, at least 1"),
        ("bench --clients 1,x", "x: expected a whole number, at least 1"),
        ("bench --seconds nan", "nan: expected a number above 0"),
        ("bench --peer foo=1", "foo=1: expected KIND=URL, where KIND is one of sandboxd, piston"),
        ("bench --url ftp://x", "ftp://x: expected http://host:port"),
        ("bench --local nobody", "some of bare, bubblewrap, nsjail"),
        ("growth --curve width", "some of jobs, warm, clients, depth"),
    ],
)
def test_a_word_that_makes_no_sense_is_named_with_what_would(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        tool.main(words.split())
    assert ended.value.code == 2 and told in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["bench", "growth", "network", "images"])
def test_a_place_that_cannot_hold_the_results_is_told_at_once(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "file").write_text("")
    assert tool.main([verb, "--out", str(tmp_path / "file" / "results")]) == 2
    assert "file/results: Not a directory" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["network", "images"])
def test_what_needs_root_says_so(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert tool.main([verb, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "needs root\n"
