"""What runs inside a sandbox beside the job: hooks that hold interpreters before their script.

They are copied to a place of their own, readable by every uid, and shown read-only under
/opt/sandboxd. Each directory is one interpreter's: the module that it loads, and files of here.
"""

import compileall
import shutil
from collections.abc import Iterable
from pathlib import Path

from sandboxd.errors import DriverFault
from sandboxd.model import Warm
from sandboxd.native import AWAIT_MODULE, ZYGOTE_MODULE, Bind

TARGET = "/opt/sandboxd"
ZYGOTE = "SANDBOXD_ZYGOTE"
"""Variable that tells a hook to be one."""
MODULES = "SANDBOXD_MODULES"
"""Variable that tells it what to import ahead, separated by spaces."""
_HOOKS = {"python": ZYGOTE_MODULE, "node": AWAIT_MODULE, "java": AWAIT_MODULE}
"""Each with the module that it loads."""


def install(directory: Path) -> tuple[Bind, ...]:
    """Copy the hooks to `directory`, compiled ahead. Raises DriverFault."""
    try:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, mode=0o755)
        for name, module in _HOOKS.items():
            source, target = Path(__file__).parent / name, directory / name
            target.mkdir(mode=0o755)
            for file in (*source.glob("*.py"), *source.glob("*.js")):
                shutil.copy(file, target)
            compileall.compile_dir(target, quiet=2, ddir=f"{TARGET}/{name}")
            shutil.copy(module, target)
        for path in (directory, *directory.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    except OSError as error:
        raise DriverFault("exec", "install the hooks", str(error)) from error
    return tuple(Bind(str(directory / name), f"{TARGET}/{name}") for name in _HOOKS)


def named(binds: Iterable[Bind], warm: Warm) -> tuple[Bind, ...]:
    """Those of the binds that a warm-up names in its command or its variables: it sees no others."""
    words = (*warm.command, *warm.env.values())
    return tuple(bind for bind in binds if any(bind.target in word for word in words))
