"""What runs inside a sandbox beside the job: hooks that hold interpreters before their script.

They are copied to a place of their own, readable by every uid, and shown read-only under
/opt/sandboxd. Each directory is one interpreter's.
"""

import compileall
import shutil
from pathlib import Path

from sandboxd.errors import DriverFault
from sandboxd.native import ZYGOTE_MODULE, Bind

TARGET = "/opt/sandboxd"
ZYGOTE = "SANDBOXD_ZYGOTE"
"""Variable that tells a hook to be one."""
MODULES = "SANDBOXD_MODULES"
"""Variable that tells it what to import ahead, separated by spaces."""
_HOOKS = ("python",)


def install(directory: Path) -> tuple[Bind, ...]:
    """Copy the hooks to `directory`, compiled ahead. Raises DriverFault."""
    try:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, mode=0o755)
        for name in _HOOKS:
            target = directory / name
            shutil.copytree(
                Path(__file__).parent / name, target, ignore=shutil.ignore_patterns("__pycache__")
            )
            compileall.compile_dir(target, quiet=2, ddir=f"{TARGET}/{name}")
        shutil.copy(ZYGOTE_MODULE, directory / "python")
        for path in (directory, *directory.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    except OSError as error:
        raise DriverFault("exec", "install the hooks", str(error)) from error
    return tuple(Bind(str(directory / name), f"{TARGET}/{name}") for name in _HOOKS)
