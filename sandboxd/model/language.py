"""A language: how a source becomes a running program. Data of `policies/languages/*.toml`."""

from collections.abc import Callable, Iterable
from typing import Annotated

from msgspec import Meta, Struct

from sandboxd.model.context import ContextLanguage
from sandboxd.model.image import ImageName as ImageName
from sandboxd.model.limits import LimitOverrides
from sandboxd.model.run import Name, SandboxPath

ModuleName = Annotated[str, Meta(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]


class Compile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    command: Annotated[list[str], Meta(min_length=1)]
    """argv in /work; see `argv()` for its placeholders. Extra arguments are appended."""
    artifacts: Annotated[list[str], Meta(min_length=1)]
    """Globs within /work (one directory level) of what the run needs, e.g. `["a.out"]`."""
    limits: LimitOverrides = LimitOverrides()
    env: dict[str, str] = {}


class SelfTest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: str
    stdin: str = ""
    stdout: str


class Warm(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An interpreter that is started ahead, in its sandbox, and waits for its source."""

    command: Annotated[list[str], Meta(min_length=1)]
    """argv, as `run` without anything that a request may add. With `{memory}` in it, a run that has
    another limit starts cold."""
    env: dict[str, str]
    """Added to the language's own while it starts, so that it finds the module that waits."""
    directory: Annotated[str, Meta(pattern=r"^/")] = "/work"
    """Where it starts. It is in /work once it has its order."""
    arguments: bool = True
    """Whether it can take a run's arguments when it has started; else a run that has some starts cold."""
    pool_size: Annotated[int, Meta(ge=0, le=10_000)] = 4
    pool_max: Annotated[int, Meta(ge=0, le=10_000)] = 0
    """As many may be kept while runs come fast; 0: `pool_size`, always."""
    copies: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """How many sandboxes are forked from one interpreter before another is started for the next, where
    the image is the host's own; 0: each sandbox starts its own. Copies of one share its address-space
    layout and what else it drew at random when it started."""
    modules: list[ModuleName] = []
    """What the interpreter imports while it starts."""
    cold_env: list[str] = []
    """Prefixes of variables that the interpreter reads while it starts: a run that sets one of
    them starts cold."""
    cold_files: list[str] = []
    """Prefixes of paths below /work that it looks at while it starts: a run that brings one of them
    starts cold."""


class Language(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Name
    title: str
    aliases: list[Name] = []
    source: SandboxPath
    """Name under which the source is written, e.g. `main.py`."""
    template: Name = "default"
    requires: list[str] = []
    """Absolute paths inside the image that must exist for the language to be offered; `a|b` is
    satisfied by either."""
    compile: Compile | None = None
    warm: Warm | None = None
    run: Annotated[list[str], Meta(min_length=1)]
    """argv in /work; see `argv()` for its placeholders. The request's `args` are appended."""
    limits: LimitOverrides = LimitOverrides()
    """What its runtime needs beyond the operator's defaults."""
    env: dict[str, str] = {}
    self_test: SelfTest

    def available(self, has: Callable[[str], bool]) -> bool:
        """Whether an image has what the language requires; `has` tells if a path exists in it."""
        return all(any(map(has, entry.split("|"))) for entry in self.requires)


def argv(command: Iterable[str], *, source: str, memory: int) -> list[str]:
    """A language's command with `{source}` (the source's name) and `{memory}` filled in.

    `{memory}` is the memory limit in bytes of the sandbox that the command runs in: runtimes such
    as the JVM find no cgroup file system inside to size their heap by.
    """
    memory_text = str(memory)
    return [word.replace("{source}", source).replace("{memory}", memory_text) for word in command]


class Template(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Image + policy from which the pool builds sandboxes."""

    name: Name
    image: ImageName = "host"
    """`host`, or a name or digest in the node's image store, e.g. `python` or `debian:bookworm`."""
    seccomp: Name = "default"
    """File name, without suffix, in `policies/seccomp/`."""
    apparmor: Name = "sandboxd"
    cpus: Annotated[float, Meta(gt=0, le=1024)] = 1.0
    """Cores it may use at once (cgroup quota) and the reservation of admission."""
    limits: LimitOverrides = LimitOverrides()
    pool_size: Annotated[int, Meta(ge=0, le=10_000)] = 4
    """Sandboxes kept built ahead."""
    pool_max: Annotated[int, Meta(ge=0, le=10_000)] = 0
    """As many may be kept while runs come fast; 0: `pool_size`, always."""
    session: bool = False
    """Its sandboxes live on for more processes and may write everywhere: for sessions, not for runs."""
    root: bool = False
    """Of a session: processes may be root inside, over the ids of the sandbox's own range. False: all are
    uid 1000, the only one there is."""
    context: ContextLanguage | None = None
    """Its sandboxes come with the default context of this language, whose interpreter then runs already:
    while they are asked for, `pool_size` are kept so."""
