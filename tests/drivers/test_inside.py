"""The hooks that hold interpreters: installed whole, and of one mind with the native core."""

import ast
import re
import stat
import sys
from pathlib import Path

import pytest

from sandboxd.drivers.exec import inside
from sandboxd.errors import DriverFault
from sandboxd.model import Warm
from sandboxd.native import core

HOOK = Path(inside.__file__).parent / "python" / "sitecustomize.py"


def constants() -> dict[str, int]:
    """The numbers that the hook is written with, read without running it."""
    found: dict[str, int] = {}
    for node in ast.parse(HOOK.read_text()).body:
        if isinstance(node, ast.Assign) and not _calls(node.value):
            (target,) = node.targets
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            value = ast.literal_eval(node.value)
            values = value if isinstance(value, tuple) else (value,)
            found |= {
                name.id: number
                for name, number in zip(names, values, strict=True)
                if isinstance(name, ast.Name)
            }
    return found


def _calls(value: ast.expr) -> bool:
    return any(isinstance(part, ast.Call) for part in ast.walk(value))


def test_the_hook_numbers_stages_as_the_core_does() -> None:
    names = {"RECEIVE_STAGE": "receive", "FILES_STAGE": "files", "CWD_STAGE": "cwd"}
    numbers = constants()
    assert {name: core.STAGES[numbers[name]] for name in names} == names


def test_the_hook_speaks_the_version_and_the_layout_of_the_core() -> None:
    numbers = constants()
    assert numbers["ABI"] == core.ABI
    assert numbers["STDIN_NULL"] == core._STDIN_NULL
    assert numbers["HEAD"] == core.ffi.sizeof("struct sbx_exec")
    header = (Path(core.__file__).parent / "proto.h").read_text()
    assert f"SBX_EXEC_INLINE_MAX {numbers['INLINE_MAX']}u" in header


@pytest.mark.parametrize("message", ["FAIL", "ARMED", "EXEC"])
def test_the_hook_knows_messages_by_the_core_s_numbers(message: str) -> None:
    header = (Path(core.__file__).parent / "proto.h").read_text()
    first, *rest = re.findall(r"^\tSBX_MSG_(\w+)(?: = 1)?,", header, re.MULTILINE)
    assert [first, *rest].index(message) + 1 == constants()[message]


def test_the_hook_imports_nothing_that_a_cold_start_would_not_have() -> None:
    imported = {
        name.name
        for node in ast.walk(ast.parse(HOOK.read_text()))
        if isinstance(node, ast.Import)
        for name in node.names
    }
    imported.remove("_zygote")  # by a zygote alone, which takes it from sys.modules again
    assert imported == {"_socket", "builtins", "os", "sys", "sitecustomize"}
    assert not [x for x in ast.walk(ast.parse(HOOK.read_text())) if isinstance(x, ast.ImportFrom)]


def test_installed_hooks_are_readable_by_all_and_writable_by_none_but_the_owner(
    tmp_path: Path,
) -> None:
    binds = inside.install(tmp_path / "inside")
    assert [bind.target for bind in binds] == [
        "/opt/sandboxd/python",
        "/opt/sandboxd/node",
        "/opt/sandboxd/java",
    ]
    for path in (tmp_path / "inside").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o755 if path.is_dir() else 0o644), path
    python, node, java = (Path(bind.source) for bind in binds)
    assert (python / "sitecustomize.py").read_bytes() == HOOK.read_bytes()
    for hook in (node, java):
        assert (hook / "await.so").read_bytes() == core.AWAIT_MODULE.read_bytes()


def test_installed_hooks_are_compiled_under_the_name_they_have_inside(tmp_path: Path) -> None:
    inside.install(tmp_path / "inside")
    tag = sys.implementation.cache_tag
    compiled = tmp_path / "inside" / "python" / "__pycache__" / f"sitecustomize.{tag}.pyc"
    assert b"/opt/sandboxd/python/sitecustomize.py" in compiled.read_bytes()


def test_installing_again_replaces_what_was_there(tmp_path: Path) -> None:
    inside.install(tmp_path / "inside")
    stray = tmp_path / "inside" / "python" / "stray.py"
    stray.write_text("")
    inside.install(tmp_path / "inside")
    assert not stray.exists()


def test_a_place_that_cannot_be_written_is_a_named_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DriverFault, match="install the hooks"):
        inside.install(tmp_path / "file" / "inside")


def test_a_warm_up_sees_the_hooks_that_it_names(tmp_path: Path) -> None:
    binds = inside.install(tmp_path / "inside")
    warm = Warm(
        command=["/usr/bin/node", "main.js"], env={"X": "--require=/opt/sandboxd/node/hold.js"}
    )
    assert [bind.target for bind in inside.named(binds, warm)] == ["/opt/sandboxd/node"]
    assert inside.named(binds, Warm(command=["/opt/own/hold"], env={})) == ()
