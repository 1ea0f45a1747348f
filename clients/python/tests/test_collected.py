"""Collected files stay under the directory they are written to, whatever they are called."""

import os
import stat

import pytest
from sandboxd_client import save_files


def test_files_are_written_with_their_directories(tmp_path):
    paths = save_files({"a": b"1", "d/e/f": b"\xff", ".hidden": b""}, tmp_path / "out")
    assert paths == [tmp_path / "out/a", tmp_path / "out/d/e/f", tmp_path / "out/.hidden"]
    assert [path.read_bytes() for path in paths] == [b"1", b"\xff", b""]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".hidden", "a", "d"]


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/x", "a/../../x", "", ".", "..", "a//b", "a/", "./a", "a\0b", "a\nb", "\x1b[2J",
     "a\\..\\b", "\u202ex"],
)  # fmt: skip
def test_name_that_is_not_a_plain_path_is_refused_before_anything_is_written(tmp_path, name):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="not a plain relative path"):
        save_files({"good": b"x", name: b"x"}, out)
    assert not out.exists() and list(tmp_path.iterdir()) == []


def test_symbolic_link_to_a_directory_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/d").symlink_to(outside)
    with pytest.raises(OSError, match="d"):
        save_files({"d/x": b"x"}, tmp_path / "out")
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_existing_link_is_replaced_and_never_written_through(tmp_path, link):
    target = tmp_path / "precious"
    target.write_bytes(b"precious")
    out = tmp_path / "out"
    out.mkdir()
    (out / "x").symlink_to(target) if link == "symbolic" else os.link(target, out / "x")
    save_files({"x": b"new"}, out)
    assert target.read_bytes() == b"precious"
    assert (out / "x").read_bytes() == b"new" and not (out / "x").is_symlink()


def test_nothing_becomes_executable(tmp_path):
    (tmp_path / "x").touch(0o755)
    save_files({"x": b"#!/bin/sh"}, tmp_path)
    assert not stat.S_IMODE((tmp_path / "x").stat().st_mode) & 0o111


def test_failed_write_leaves_no_partial_file(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="x"):
        save_files({"x": b"data"}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
