"""Bytes of an ended program as clients see them."""

import base64
import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxd.model import FileContent, Status
from sandboxd.node.files import Brought
from sandboxd.node.outcome import Facts, Verdict
from sandboxd.node.results import collected, file_error, outcome, texts
from sandboxd.node.sandbox import Ended


@given(st.text(), st.text())
def test_text_stays_text(stdout: str, stderr: str) -> None:
    made = texts(stdout.encode(), stderr.encode(), cut_stdout=False, cut_stderr=False)
    assert (made.stdout, made.stderr, made.encoding) == (stdout, stderr, "utf-8")


@given(st.binary(), st.binary(), st.booleans(), st.booleans())
def test_both_streams_come_back_from_their_one_encoding(
    stdout: bytes, stderr: bytes, cut_stdout: bool, cut_stderr: bool
) -> None:
    made = texts(stdout, stderr, cut_stdout=cut_stdout, cut_stderr=cut_stderr)
    for data, text, cut in ((stdout, made.stdout, cut_stdout), (stderr, made.stderr, cut_stderr)):
        if made.encoding == "base64":
            assert base64.b64decode(text) == data
        else:
            # Only the end of a stream that was cut may lack, and less than a character of it.
            assert data.startswith(text.encode())
            assert len(data) - len(text.encode()) <= (3 if cut else 0)


@given(st.text(min_size=1), st.data())
def test_character_that_the_cap_cut_is_left_out(text: str, data: st.DataObject) -> None:
    whole = text.encode()
    kept = whole[: data.draw(st.integers(0, len(whole)))]
    made = texts(kept, b"", cut_stdout=True, cut_stderr=False)
    assert made.encoding == "utf-8"
    assert text.startswith(made.stdout)


def test_broken_end_of_an_uncut_stream_is_not_hidden() -> None:
    made = texts("é".encode()[:1], b"", cut_stdout=False, cut_stderr=True)
    assert made.encoding == "base64"


def ended(**facts: object) -> Ended:
    made = Facts(cpu_time=0.12345678, wall_time=1.23456789, **facts)  # type: ignore[arg-type]
    return Ended(facts=made, peak_memory=4096, init_alive=True)


def test_reason_with_an_exit_code_is_a_line_of_stderr() -> None:
    verdict = Verdict(Status.NONZERO_EXIT, exit_code=127, reason="cannot execute")
    made = outcome(verdict, ended(), b"", b"before\n", cut=(False, False))
    assert made.stderr == "before\nsandboxd: cannot execute\n"
    assert (made.cpu_time, made.wall_time, made.peak_memory) == (0.123457, 1.234568, 4096)


def test_reason_without_one_is_not() -> None:
    verdict = Verdict(Status.INTERNAL_ERROR, reason="seccomp")
    made = outcome(verdict, ended(), b"", b"", cut=(True, False))
    assert (made.stderr, made.stdout_truncated, made.stderr_truncated) == ("", True, False)


@given(st.dictionaries(st.text(min_size=1), st.binary()))
def test_collected_files_come_back_whole(files: dict[str, bytes]) -> None:
    found, errors = collected(Brought(name, data) for name, data in files.items())
    assert {name: content.data() for name, content in found.items()} == files
    assert errors == {}
    assert all(isinstance(content, FileContent) for content in found.values())


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (errno.ENOENT, "not_found"),
        (errno.ENOTDIR, "not_found"),
        (errno.ELOOP, "not_regular"),
        (errno.EISDIR, "not_regular"),
        (errno.ENXIO, "not_regular"),
        (errno.EXDEV, "not_regular"),
        (errno.EFBIG, "too_large"),
        (errno.EACCES, "denied"),
        (errno.EIO, "denied"),
    ],
)
def test_every_error_has_a_word_for_the_client(number: int, word: str) -> None:
    assert file_error(number) == word
    assert collected([Brought("f", None, number)]) == ({}, {"f": word})
