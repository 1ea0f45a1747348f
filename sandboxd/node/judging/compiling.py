"""Compiles a source once: in a sandbox, and kept by everything that decides what comes out."""

from hashlib import sha256

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from sandboxd.model import FileContent, Language, Limits, Outcome, Status
from sandboxd.model import argv as fill
from sandboxd.node.judging.cache import Cache
from sandboxd.node.judging.program import FILE_MODE, Files, Workplace, order

ARTIFACTS_MAX = 64 << 20
"""Bytes of one program."""
_ENTRY = 4_096
"""Bytes that an entry is counted with besides its files."""
_encode = msgspec.json.Encoder(order="sorted").encode


class Source(Struct, frozen=True, kw_only=True):
    """A program as it was sent."""

    source: str | None
    files: dict[str, FileContent]
    compile_args: list[str]


class Compiled(Struct, frozen=True, kw_only=True):
    outcome: Outcome | None
    """None: the language does not compile."""
    files: Files
    """What a sandbox needs to run it."""
    layers: frozenset[str] = frozenset()

    @property
    def ok(self) -> bool:
        return self.outcome is None or self.outcome.status is Status.OK


class Compiler:
    def __init__(self, room: int) -> None:
        """Keeps at most `room` bytes of compiled programs."""
        self.cache: Cache[Compiled] = Cache(room, _size)

    async def compile(
        self,
        place: Workplace,
        tenant: str,
        language: Language,
        limits: Limits | None,
        source: Source,
    ) -> Compiled:
        """What runs. Raises SystemFault or Overload if the host failed."""
        recipe = language.compile
        if recipe is None or limits is None:
            return Compiled(outcome=None, files=_files(language, source))
        # The whole language is in the key: an operator's change of it is another compiler.
        parts = _encode([tenant, language, limits, source])
        key = sha256(parts).hexdigest()
        return await self.cache.get(key, lambda: _compile(place, language, limits, source))


async def _compile(
    place: Workplace, language: Language, limits: Limits, source: Source
) -> Compiled:
    recipe = language.compile
    assert recipe is not None
    files = _files(language, source)
    argv = [
        *fill(recipe.command, source=language.source, memory=limits.memory),
        *source.compile_args,
    ]
    ran = await place.run(
        (language.template,), order(argv, {**language.env, **recipe.env}, files, limits), limits, b"",
        collect=recipe.artifacts, glob=True, budget=ARTIFACTS_MAX,
    )  # fmt: skip
    outcome = ran.outcome()
    made = [(file.name, FILE_MODE, file.data) for file in ran.files if file.data is not None]
    if outcome.status is Status.OK and not made:
        note = f"sandboxd: the compiler made none of {', '.join(recipe.artifacts)}\n"
        outcome = Outcome(
            **{**asdict(outcome), "status": Status.COMPILE_ERROR, "stderr": outcome.stderr + note}
        )
    rest = [file for file in files if file[0] != language.source]
    return Compiled(outcome=outcome, files=[*made, *rest], layers=ran.layers)


def _files(language: Language, source: Source) -> Files:
    files = [(path, FILE_MODE, content.data()) for path, content in source.files.items()]
    if source.source is not None:
        files.append((language.source, FILE_MODE, source.source.encode()))
    return files


def _size(compiled: Compiled) -> int:
    """Only what a compiler said by itself is worth keeping: a limit may hold another time."""
    if compiled.outcome is None or compiled.outcome.status not in (Status.OK, Status.NONZERO_EXIT):
        return -1
    text = len(compiled.outcome.stdout) + len(compiled.outcome.stderr)
    return _ENTRY + text + sum(len(content) for _, _, content in compiled.files)
