"""Which interpreters there are, and how each is started."""

import json
from importlib.resources import files

from msgspec import Struct

from sandboxd.model.context import ContextLanguage


class Start(Struct, frozen=True):
    """How a context's process comes to be."""

    command: list[str]
    """argv: an interpreter of the image, and a loader that takes `program` in."""
    program: bytes
    """The first bytes of its stdin."""


_INSIDE = files("sandboxd.kernels") / "inside"
_PACKAGE = "sandboxd_kernel"
_MODULES = {
    ContextLanguage.PYTHON: ("python", ("wire", "python", "shell", "figures", "charts")),
    ContextLanguage.BASH: ("bash", ("wire", "bridge", "bash")),
    ContextLanguage.R: ("r", ("wire", "bridge", "r")),
    ContextLanguage.JAVA: ("java", ("wire", "bridge", "java")),
}


def start(language: ContextLanguage) -> Start:
    return _STARTS[language]


def _start(language: ContextLanguage) -> Start:
    if language is ContextLanguage.JAVASCRIPT:
        return _node()
    main, names = _MODULES[language]
    sources = {f"{_PACKAGE}.{name}": _text(f"{name}.py") for name in names}
    if language is ContextLanguage.JAVA:
        sources[f"{_PACKAGE}.sources"] = f"KERNEL = {_text('Kernel.java')!r}"
    bundle = json.dumps({_PACKAGE: "", **sources}).encode()
    loader = f"{_text('boot.py')}\nfrom {_PACKAGE}.{main} import main\nmain()\n"
    return Start(["python3", "-c", loader], _counted(bundle))


def _node() -> Start:
    """Its stdin and stdout are moved away before it starts: Node cannot move its own."""
    shell = 'exec node -e "$0" 3<&0 4>&1 0</dev/null 1>&2'
    program = _counted(_text("javascript.js").encode())
    return Start(["sh", "-c", shell, _text("boot.js")], program)


def _counted(program: bytes) -> bytes:
    return b"%d\n" % len(program) + program


def _text(name: str) -> str:
    return (_INSIDE / name).read_text()


_STARTS = {language: _start(language) for language in ContextLanguage}
"""Read once, at import: an event loop reads no files."""
