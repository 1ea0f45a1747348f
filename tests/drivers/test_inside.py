"""The hooks that hold warm interpreters speak the native core's numbers, and are readable inside."""

import re
from pathlib import Path

import pytest

from sandboxd.drivers.exec import inside
from sandboxd.native import core

HOOK = Path(inside.__file__).parent / "python" / "sitecustomize.py"
NATIVE = Path(core.__file__).parent


def number(name: str) -> int:
    """The value that the hook gives to `name` in one of its tuple assignments."""
    for names, values in re.findall(r"^([A-Z_, ]+) = ([\d, ]+)", HOOK.read_text(), re.MULTILINE):
        found = dict(zip(names.split(", "), values.split(", "), strict=True))
        if name in found:
            return int(found[name])
    raise LookupError(name)


def test_the_hook_speaks_the_version_of_the_core() -> None:
    assert number("ABI") == core.ABI


@pytest.mark.parametrize("stage", ["receive", "files", "cwd"])
def test_the_hook_names_stages_by_the_core_s_numbers(stage: str) -> None:
    assert core.STAGES[number(f"{stage.upper()}_STAGE")] == stage


@pytest.mark.parametrize("message", ["FAIL", "ARMED", "EXEC"])
def test_the_hook_knows_messages_by_the_core_s_numbers(message: str) -> None:
    header = (NATIVE / "proto.h").read_text()
    first, *rest = re.findall(r"^\tSBX_MSG_(\w+)(?: = 1)?,", header, re.MULTILINE)
    assert [first, *rest].index(message) + 1 == number(message)


def test_the_head_of_an_order_has_the_size_that_the_hook_skips() -> None:
    assert number("HEAD") == core.ffi.sizeof("struct sbx_exec")


def test_installed_hooks_can_be_read_by_every_uid(tmp_path: Path) -> None:
    directory = tmp_path / "inside"
    binds = inside.install(directory)
    assert [bind.target for bind in binds] == ["/opt/sandboxd/python"]
    modes = {path: path.stat().st_mode & 0o777 for path in [directory, *directory.rglob("*")]}
    assert all(mode == (0o755 if path.is_dir() else 0o644) for path, mode in modes.items())
    assert list(directory.rglob("*.pyc"))


def test_installing_again_replaces_what_an_earlier_node_left(tmp_path: Path) -> None:
    directory = tmp_path / "inside"
    inside.install(directory)
    (directory / "python" / "left.py").touch()
    inside.install(directory)
    assert not (directory / "python" / "left.py").exists()
