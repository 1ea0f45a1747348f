"""What an instruction means where it stands: variables filled in, defaults applied. Pure."""

import posixpath
from collections.abc import Mapping

from msgspec import Struct

from sandboxd.drivers.graph.builder.dockerfile import Instruction
from sandboxd.drivers.graph.builder.words import expand, pairs, words
from sandboxd.model.image import RunConfig

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHELL = ("/bin/sh", "-c")
_URLS = ("http://", "https://", "ftp://", "git://", "git@")


class Run(Struct, frozen=True, kw_only=True):
    argv: list[str]
    env: dict[str, str]
    workdir: str
    user: str
    """As written; empty is root."""


class Copy(Struct, frozen=True, kw_only=True):
    sources: list[str]
    target: str
    """Absolute; ends in / if it is to be a directory."""
    origin: str
    """A stage or an image; empty is the context."""
    owner: str
    """`user[:group]`, or empty."""
    mode: int | None
    unpack: bool
    """Archives among the sources are unpacked."""


class MakeDirectory(Struct, frozen=True):
    path: str


Action = Run | Copy | MakeDirectory | None
"""None: only the configuration changes."""


class Scope:
    """A stage's configuration as it grows, instruction by instruction."""

    def __init__(self, base: RunConfig, given: Mapping[str, str], outer: Mapping[str, str]) -> None:
        """`given` are the caller's arguments, `outer` those before the first FROM."""
        self._given, self._outer = given, outer
        self._args: dict[str, str] = {}
        self.env = dict(line.partition("=")[::2] for line in base.env or [])
        self.labels = dict(base.labels or {})
        self.user, self.workdir = base.user, base.working_dir or "/"
        self.cmd, self.entrypoint = base.cmd, base.entrypoint

    def config(self) -> RunConfig:
        return RunConfig(
            user=self.user,
            env=[f"{name}={value}" for name, value in self.env.items()] or None,
            entrypoint=self.entrypoint,
            cmd=self.cmd,
            working_dir="" if self.workdir == "/" else self.workdir,
            labels=self.labels or None,
        )

    def apply(self, instruction: Instruction) -> Action:
        """Raises InvalidDockerfile."""
        try:
            return getattr(self, f"_{instruction.keyword.lower()}")(instruction)  # type: ignore[no-any-return]
        except ValueError as error:
            raise instruction.fault(str(error)) from None

    @property
    def _variables(self) -> dict[str, str]:
        return {**self._args, **self.env}

    def _run(self, instruction: Instruction) -> Action:
        argv = instruction.words or [*_SHELL, instruction.text]
        return Run(
            argv=argv, env={"PATH": PATH, **self._variables}, workdir=self.workdir, user=self.user
        )

    def _copy(self, instruction: Instruction) -> Action:
        return self._copying(instruction, unpack=False)

    def _add(self, instruction: Instruction) -> Action:
        return self._copying(instruction, unpack=True)

    def _copying(self, instruction: Instruction, *, unpack: bool) -> Copy:
        raw = instruction.words if instruction.words is not None else words(instruction.text)
        paths = [expand(word, self._variables) for word in raw]
        if len(paths) < 2:
            raise ValueError(f"{instruction.keyword} needs a source and a destination")
        *sources, target = paths
        if any(source.startswith(_URLS) for source in sources):
            raise ValueError("only local files can be added")
        flags = {name: expand(text, self._variables) for name, text in instruction.flags.items()}
        where = posixpath.join(self.workdir, target)
        if len(sources) > 1 and not target.endswith("/"):
            raise ValueError("with several sources the destination must end in /")
        as_directory = target.endswith(("/", "/.")) or target in (".", "")
        return Copy(
            sources=sources,
            target=_normal(where) + ("/" if as_directory and _normal(where) != "/" else ""),
            origin=flags.get("from", ""),
            owner=flags.get("chown", ""),
            mode=_mode(flags.get("chmod")),
            unpack=unpack,
        )

    def _env(self, instruction: Instruction) -> Action:
        self.env |= pairs(instruction.text, self._variables)
        return None

    def _label(self, instruction: Instruction) -> Action:
        self.labels |= pairs(instruction.text, self._variables)
        return None

    def _arg(self, instruction: Instruction) -> Action:
        for word in words(instruction.text):
            name, equals, default = word.partition("=")
            if not name.isidentifier():
                raise ValueError(f"{name[:40]!r} is not an argument's name")
            if name in self._given:
                self._args[name] = self._given[name]
            elif equals:
                self._args[name] = expand(default, self._variables)
            elif name in self._outer:
                self._args[name] = self._outer[name]
        return None

    def _workdir(self, instruction: Instruction) -> Action:
        path = expand(instruction.text, self._variables)
        self.workdir = _normal(posixpath.join(self.workdir, path))
        return MakeDirectory(self.workdir)

    def _user(self, instruction: Instruction) -> Action:
        self.user = expand(instruction.text, self._variables)
        if not self.user or any(char.isspace() for char in self.user):
            raise ValueError("write USER name or USER uid")
        return None

    def _cmd(self, instruction: Instruction) -> Action:
        self.cmd = instruction.words or [*_SHELL, instruction.text]
        return None

    def _entrypoint(self, instruction: Instruction) -> Action:
        self.entrypoint = instruction.words or [*_SHELL, instruction.text]
        self.cmd = None
        return None


def outer_arguments(args: list[Instruction], given: Mapping[str, str]) -> dict[str, str]:
    """Values of the ARGs before the first FROM. Raises InvalidDockerfile."""
    scope = Scope(RunConfig(), given, {})
    for instruction in args:
        scope.apply(instruction)
    return dict(scope._args)


def _normal(path: str) -> str:
    """An absolute path without `.` and `..`, which never leads above the root."""
    return "/" + posixpath.normpath(path).lstrip("/")


def _mode(text: str | None) -> int | None:
    if text is None:
        return None
    if not text or len(text) > 4 or set(text) - set("01234567"):
        raise ValueError(f"--chmod={text[:20]}: write octal digits")
    return int(text, 8) & 0o1777
