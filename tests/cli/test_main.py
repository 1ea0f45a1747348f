"""The command line as such."""

import subprocess
import sys
from pathlib import Path

import pytest

import sandboxd

ROOT = Path(sandboxd.__file__).parents[1]


def sandboxd_command(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "sandboxd.cli.main", *arguments],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin", **env}, text=True, capture_output=True, check=False,
        timeout=30,
    )  # fmt: skip


def test_help_names_every_command_and_imports_none_of_them() -> None:
    code = (
        "import sys\n"
        "from sandboxd.cli.main import main\n"
        "try: main()\n"
        "finally: print([m for m in sys.modules if m.startswith('sandboxd.')], file=sys.stderr)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, "--help"], cwd=ROOT, text=True, capture_output=True, check=True
    )
    for name in ("serve", "gateway", "node", "run", "doctor"):
        assert f"\n  {name} " in process.stdout
    assert "sandboxd.settings" in process.stderr
    for heavy in ("sandboxd.cli.serve", "sandboxd.queue", "sandboxd.gateway", "sandboxd.node"):
        assert f"'{heavy}" not in process.stderr


def test_version() -> None:
    assert sandboxd_command("--version").stdout == f"sandboxd {sandboxd.__version__}\n"


@pytest.mark.parametrize("command", ["serve", "gateway", "node", "doctor"])
@pytest.mark.parametrize(
    ("arguments", "env", "named"),
    [
        (["--set", "queue.nosuch=1"], {}, "queue.nosuch"),
        (["--set", "queue.lease=-1"], {}, "queue.lease"),
        (["--config", "/nonexistent.toml"], {}, "/nonexistent.toml"),
        ([], {"SANDBOXD_QUEUE_LEESE": "1"}, "SANDBOXD_QUEUE_LEESE"),
    ],
)
def test_bad_settings_are_one_line_and_exit_2(
    command: str, arguments: list[str], env: dict[str, str], named: str
) -> None:
    process = sandboxd_command(*arguments, command, **env)
    assert process.returncode == 2
    assert named in process.stderr
    assert process.stderr.startswith("sandboxd: ")
    assert process.stderr.count("\n") == 1


def test_an_unknown_command_is_a_usage_error() -> None:
    process = sandboxd_command("nosuch")
    assert process.returncode == 2
    assert "No such command 'nosuch'" in process.stderr
