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
_JUPYTER = ("wire", "formats", "serial", "rwords", "messages", "jupyter")
_MODULES = {
    ContextLanguage.PYTHON: (
        "python",
        ("wire", "formats", "python", "lean", "shell", "figures", "charts"),
    ),
    ContextLanguage.BASH: ("bash", ("wire", "serial", "bridge", "bash")),
    ContextLanguage.R: ("r", (*_JUPYTER, "bridge", "r")),
    ContextLanguage.JAVA: ("java", ("wire", "serial", "bridge", "java")),
}


def start(language: str) -> Start:
    """Of a `ContextLanguage`, else of the kernelspec of that name."""
    return _STARTS.get(language) or _python("jupyter", _KERNELSPEC, repr(language))


def _start(language: ContextLanguage) -> Start:
    if language is ContextLanguage.JAVASCRIPT:
        return _node()
    main, names = _MODULES[language]
    sources = _sources(names)
    if language is ContextLanguage.JAVA:
        sources[f"{_PACKAGE}.sources"] = f"KERNEL = {_text('Kernel.java')!r}"
    return _python(main, sources)


def _python(main: str, sources: dict[str, str], argument: str = "") -> Start:
    bundle = json.dumps({_PACKAGE: "", **sources}).encode()
    loader = f"{_BOOT}\nfrom {_PACKAGE}.{main} import main\nmain({argument})\n"
    return Start(["python3", "-c", loader], _counted(bundle))


def _sources(names: tuple[str, ...]) -> dict[str, str]:
    return {f"{_PACKAGE}.{name}": _text(f"{name}.py") for name in names}


def _node() -> Start:
    """Its stdin and stdout are moved away before it starts: Node cannot move its own."""
    shell = 'exec node -e "$0" 3<&0 4>&1 0</dev/null 1>&2'
    program = _counted(_text("javascript.js").encode())
    return Start(["sh", "-c", shell, _text("boot.js")], program)


def _counted(program: bytes) -> bytes:
    return b"%d\n" % len(program) + program


def _text(name: str) -> str:
    return (_INSIDE / name).read_text()


# Read once, at import: an event loop reads no files.
_BOOT = _text("boot.py")
_KERNELSPEC = _sources(_JUPYTER)
_STARTS: dict[str, Start] = {language: _start(language) for language in ContextLanguage}
