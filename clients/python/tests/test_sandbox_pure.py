"""What the sandbox API decides without a service."""

import base64
import importlib.util
import io
import os
import tarfile
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sandboxd_client import ConnectionFailed, Timeout, unpack_tar
from sandboxd_client.deadline import Deadline
from sandboxd_client.sandbox_core import at, command_body
from sandboxd_client.sandbox_output import Collector
from sandboxd_client.tool_schemas import shortened
from sandboxd_client.transport import translated

_TOOLS = Path(__file__).parents[1] / "tools" / "unasync.py"


def _unasync():
    spec = importlib.util.spec_from_file_location("unasync", _TOOLS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


UNASYNC = _unasync()


@pytest.mark.parametrize(("source", "made"), UNASYNC.MODULES.items())
def test_the_blocking_half_is_what_the_tool_makes(source, made):
    text = UNASYNC.converted((UNASYNC.PACKAGE / source).read_text())
    assert (UNASYNC.PACKAGE / made).read_text() == text, "run tools/unasync.py"


@given(st.lists(st.text(max_size=20)), st.integers(1, 7), st.integers(0, 30))
def test_a_collector_keeps_the_newest_and_tells_all(texts, size, keep):
    whole = "".join(texts).encode()
    heard = []
    collector = Collector(on_stdout=heard.append, keep=keep)
    for start in range(0, len(whole), size):
        piece = whole[start : start + size]
        collector.feed({"type": "stdout", "base64": base64.b64encode(piece).decode()})
    process = {"id": "prc_x", "state": "exited", "exit_code": 0}
    collector.feed({"type": "exit", "process": process})
    result = collector.result()
    assert "".join(heard).encode() == whole
    assert result.stdout_bytes == (whole[-keep:] if keep else b"")
    assert result.stdout_truncated == (len(whole) > keep)


def test_paths_of_any_kind():
    assert at("a/ü") == {"path": "a/ü"}
    assert at(b"a") == at(Path("a")) == {"path": "a"}
    assert at(b"\xff") == at(os.fsdecode(b"\xff")) == {"path_base64": "/w=="}


def test_a_socket_that_has_no_time_left_is_a_timeout():
    """`settimeout(0)` makes it answer EAGAIN, which httpx calls a ReadError."""
    over, ahead = Deadline(0), Deadline(60)
    error = httpx.ReadError("[Errno 11] Resource temporarily unavailable")
    assert isinstance(translated(error, over), Timeout)
    assert isinstance(translated(error, ahead), ConnectionFailed)


def test_unknown_options_are_no_silence():
    with pytest.raises(TypeError, match="shel"):
        command_body("true", {"shel": True})


@given(st.text(), st.integers(10, 100))
def test_shortened_keeps_both_ends(text, most):
    short = shortened(text, most)
    assert short == text or (
        text.startswith(short.split("\n…")[0]) and text.endswith(short.rpartition("…\n")[2])
    )


def test_a_tar_out_of_a_sandbox_writes_below_its_directory_only(tmp_path):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:

        def add(name, kind=tarfile.REGTYPE, target="", mode=0o4755):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode = kind, target, mode
            entry.size = 1 if kind == tarfile.REGTYPE else 0
            archive.addfile(entry, io.BytesIO(b"x"))

        add("./good/file")
        add("../up")
        add("/absolute")
        add("out", tarfile.SYMTYPE, str(tmp_path / "elsewhere"))
        add("hard", tarfile.LNKTYPE, "/etc/passwd")
        add("fifo", tarfile.FIFOTYPE)
        add("empty", tarfile.DIRTYPE)
        add("bad\nname")
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "in"
    target.mkdir()
    (target / "planted").symlink_to(tmp_path / "elsewhere")
    data.seek(0)
    skipped = unpack_tar(data, target)
    assert skipped == ["../up", "/absolute", "out", "hard", "fifo", "bad\nname"]
    assert (target / "good/file").read_bytes() == b"x"
    assert (target / "good/file").stat().st_mode & 0o7000 == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["elsewhere", "in"]
    assert not list((tmp_path / "elsewhere").iterdir())
    with tarfile.open(fileobj=(through := io.BytesIO()), mode="w") as archive:
        add("planted/file")
    through.seek(0)
    with pytest.raises(OSError):
        unpack_tar(through, target)
    assert not list((tmp_path / "elsewhere").iterdir())
    with pytest.raises(ValueError, match="not a tar"):
        unpack_tar(io.BytesIO(b"nothing"), target)
