"""Compiles a source once: in a sandbox, and kept by everything that decides what comes out."""

from hashlib import sha256

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from sandboxd.model import FileContent, Language, Limits, Outcome, Status
from sandboxd.model import argv as fill
from sandboxd.node.judging.artifacts import Artifacts, Toolchain
from sandboxd.node.judging.cache import Cache
from sandboxd.node.judging.compiled import Compiled
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


class Compiler:
    def __init__(
        self, room: int, artifacts: Artifacts | None = None, toolchain: Toolchain = lambda _: None
    ) -> None:
        """Keeps at most `room` bytes of compiled programs; what other nodes share is in `artifacts`."""
        self.cache: Cache[Compiled] = Cache(room, _size)
        self._artifacts, self._toolchain = artifacts, toolchain

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
        toolchain = self._toolchain(language.template)
        # The whole language is in the key: an operator's change of it is another compiler.
        parts = _encode([tenant, language, limits, source, toolchain])
        key = sha256(parts).hexdigest()
        if self._artifacts is None or toolchain is None:
            return await self.cache.get(key, lambda: _compile(place, language, limits, source))
        shared = self._artifacts

        async def make() -> Compiled:
            found = await shared.find(key)
            if found is None:
                found = await _compile(place, language, limits, source)
                await shared.share(key, found, _size(found))
            return found

        return await self.cache.get(key, make)


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
    taken = {language.source, *(name for name, _, _ in made)}
    rest = [file for file in files if file[0] not in taken]
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
