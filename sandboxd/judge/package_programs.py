"""Programs of a problem package: its output validator, and the submissions that came with it. Pure."""

from pathlib import PurePosixPath

from msgspec import Struct

from sandboxd.judge.archive import PackageError, Tree
from sandboxd.model.run import FileContent
from sandboxd.model.submission import Program

SUFFIXES = {
    ".c": "c", ".cc": "cpp", ".cpp": "cpp", ".cxx": "cpp", ".c++": "cpp", ".C": "cpp",
    ".py": "python", ".py3": "python", ".java": "java", ".go": "go", ".rs": "rust", ".js": "node",
    ".rb": "ruby", ".php": "php", ".pl": "perl", ".lua": "lua", ".sh": "bash",
}  # fmt: skip
_COMPILED_TOGETHER = ("c", "cpp")
_EXPECTED = {
    "accepted": ("AC",),
    "partially_accepted": ("AC", "WA"),
    "wrong_answer": ("WA", "PE"),
    "time_limit_exceeded": ("TLE",),
    "run_time_error": ("RE", "MLE", "OLE"),
    "rejected": ("WA", "PE", "TLE", "RE", "MLE", "OLE"),
    "brute_force": ("TLE", "WA", "PE", "RE", "MLE", "OLE"),
}


class Example(Struct, frozen=True, kw_only=True):
    """A submission that came with the package."""

    path: str
    expected: tuple[str, ...]
    """Verdicts that its directory promises."""
    language: str | None
    """None: by its suffix, no language that we know."""
    source: str = ""
    files: dict[str, FileContent] = {}
    compile_args: list[str] = []


def validator(tree: Tree, modern: bool, args: tuple[str, ...], scoring: bool) -> Program | None:
    """The output validator, or None if there is none. Raises PackageError."""
    folder = "output_validator/" if modern else "output_validators/"
    found = _programs(tree, folder) if not modern else {"": _below(tree, folder)}
    found = {name: files for name, files in found.items() if files}
    if not found:
        return None
    if len(found) > 1:
        raise PackageError(f"{folder}: more than one validator is not supported")
    [files] = found.values()
    example = _program(folder, (), files)
    if example.language is None:
        raise PackageError(f"{folder}: no source in a language that is known")
    return Program(
        language=example.language,
        source=example.source,
        files=example.files,
        compile_args=example.compile_args,
        args=list(args),
        convention="icpc",
        scoring=scoring,
    )


def examples(tree: Tree) -> list[Example]:
    """Every submission of the directories whose meaning the format gives."""
    found = []
    for directory, expected in _EXPECTED.items():
        folder = f"submissions/{directory}/"
        for name, files in sorted(_programs(tree, folder).items()):
            found.append(_program(folder + name, expected, files))
    return found


def _programs(tree: Tree, folder: str) -> dict[str, dict[str, bytes]]:
    """Each file of a folder, and each directory in it, is a program."""
    found: dict[str, dict[str, bytes]] = {}
    for path, data in _below(tree, folder).items():
        name, slash, rest = path.partition("/")
        found.setdefault(name, {})[rest if slash else name] = data
    return found


def _below(tree: Tree, folder: str) -> dict[str, bytes]:
    return {
        path.removeprefix(folder): data for path, data in tree.items() if path.startswith(folder)
    }


def _program(path: str, expected: tuple[str, ...], files: dict[str, bytes]) -> Example:
    """One source is the main one: the only one, or the one that is called main (or Main)."""
    sources = [name for name in sorted(files) if _language(name) is not None]
    main = [name for name in sources if PurePosixPath(name).stem in ("main", "Main")] or sources
    if not main or "build" in files or "run" in files:
        return Example(path=path, expected=expected, language=None)
    language = _language(main[0])
    others = {name: data for name, data in files.items() if name != main[0]}
    together = language in _COMPILED_TOGETHER
    try:
        source = files[main[0]].decode()
    except UnicodeDecodeError:
        raise PackageError(f"{path}: the source is not UTF-8") from None
    return Example(
        path=path,
        expected=expected,
        language=language,
        source=source,
        files={name: FileContent.of(data) for name, data in others.items()},
        compile_args=[name for name in sources if name != main[0]] if together else [],
    )


def _language(name: str) -> str | None:
    return SUFFIXES.get(PurePosixPath(name).suffix)
