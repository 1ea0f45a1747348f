"""Carries a Dockerfile out, instruction by instruction, and makes an image of what comes of it."""

import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol, cast

import msgspec
from msgspec import Struct

from sandboxd.drivers.graph.builder import cache, copying, users
from sandboxd.drivers.graph.builder.context import Archives, ignored
from sandboxd.drivers.graph.builder.dockerfile import Dockerfile, Instruction, Stage, parse
from sandboxd.drivers.graph.builder.steps import Copy, MakeDirectory, Run, Scope, outer_arguments
from sandboxd.drivers.graph.builder.words import expand
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.importing import TarSink, here, layer_of
from sandboxd.drivers.graph.layers import Layer
from sandboxd.drivers.graph.merged import Merged, Node
from sandboxd.drivers.graph.store import Lease
from sandboxd.errors import BuildFailed, InvalidImage, UnknownImage
from sandboxd.model.building import Progress
from sandboxd.model.image import LAYERS_MAX, Config, History, RootFs, RunConfig

Report = Callable[[Progress], None]
_ROOT = PurePosixPath("/")


class RunEnd(Struct, frozen=True):
    problem: str
    """Why the command failed; empty if it did not."""
    layer: str = ""
    """Digest of the archive of what it changed; empty if nothing."""


class Runner(Protocol):
    """Carries out RUN. `layers` from the bottom up; `uid` and `env` are of the command."""

    def run(
        self,
        layers: Sequence[Layer],
        step: Run,
        uid: int,
        lease: Lease,
        output: Callable[[bytes], None],
    ) -> RunEnd: ...


class _Made(Struct):
    """A stage as far as it is done."""

    scope: Scope
    layers: list[Layer]
    history: list[History]


class Build:
    """One build. All that it makes is kept by `lease`."""

    def __init__(
        self,
        graph: Graph,
        lease: Lease,
        *,
        resolve: Callable[[str], str],
        runner: Runner,
        report: Report,
    ) -> None:
        """`resolve` gives the digest of a named image, or raises UnknownImage."""
        self._graph, self._lease = graph, lease
        self._resolve, self._runner, self._report = resolve, runner, report
        self._uid_base = graph.uid_base
        self._made: dict[int, _Made] = {}
        self._step = self._steps = 0

    def build(
        self, text: str, context: Path, arguments: Mapping[str, str], target: str = ""
    ) -> str:
        """The digest of the image of stage `target`, or of the last.

        `context` is an unpacked tree that nobody changes. Raises InvalidDockerfile, BuildFailed,
        InvalidImage, UnknownImage; SystemFault where the host failed.
        """
        self._file, self._given = parse(text), arguments
        self._outer = outer_arguments(self._file.args, arguments)
        self._context = Merged([context], self._uid_base)
        self._skip = ignored(self._context)
        self._archives = Archives(self._graph)
        number = _stage_number(self._file, target) if target else len(self._file.stages) - 1
        if number is None:
            raise InvalidImage(f"there is no stage {target[:40]!r}")
        self._steps = sum(
            1 + len(self._file.stages[needed].steps) for needed in _needed(self._file, number)
        )
        with self._archives:
            return self._assemble(self._stage(number))

    def _stage(self, number: int) -> _Made:
        if number not in self._made:
            stage = self._file.stages[number]
            made = self._begin(stage, number)
            for instruction in stage.steps:
                self._apply(made, instruction)
            self._made[number] = made
        return self._made[number]

    def _begin(self, stage: Stage, number: int) -> _Made:
        with at(stage.start):
            base = expand(stage.base, self._outer)
        earlier = _stage_number(self._file, base, before=number)
        begun = self._stage(earlier) if earlier is not None else None
        self._tell(stage.start, cached=True)
        if begun is not None:
            return _Made(
                Scope(begun.scope.config(), self._given, self._outer),
                list(begun.layers),
                list(begun.history),
            )
        config = RunConfig()
        layers: list[Layer] = []
        history: list[History] = []
        if base != "scratch":
            with at(stage.start):
                config, layers, history = self._image(base)
        return _Made(Scope(config, self._given, self._outer), layers, history)

    def _image(self, name: str) -> tuple[RunConfig, list[Layer], list[History]]:
        digest = self._resolve(name)
        self._lease.add(digest)
        details = self._graph.images.details(digest)
        layers = self._graph.layers.ensure(layer.digest for layer in details.manifest.layers)
        history = list(details.config.history or [])
        told = sum(not step.empty_layer for step in history)
        # Tools take it ill if layers and history differ; not every image has one.
        history += [History(created_by=name)] * (len(layers) - told)
        return details.config.config or RunConfig(), layers, history

    def _apply(self, made: _Made, instruction: Instruction) -> None:
        action = made.scope.apply(instruction)
        layer = ""
        if isinstance(action, Run):
            layer = self._run(made, instruction, action)
        elif isinstance(action, Copy):
            layer = self._copy(made, instruction, action)
        elif isinstance(action, MakeDirectory):
            layer = self._directory(made, instruction, action)
        else:
            self._tell(instruction, cached=False)
        if layer:
            if len(made.layers) >= LAYERS_MAX:
                raise instruction.fault(f"more than {LAYERS_MAX} layers")
            made.layers += self._graph.layers.ensure([layer])
        made.history.append(
            History(
                created=_now(),
                created_by=f"{instruction.keyword} {instruction.text}"[:1000],
                empty_layer=not layer,
            )
        )

    def _run(self, made: _Made, instruction: Instruction, run: Run) -> str:
        tree = self._tree(made)
        with at(instruction):
            uid, home = users.user(tree, run.user)
        if not made.layers:
            raise instruction.fault("nothing can run in an empty image")
        run = msgspec.structs.replace(run, env={"HOME": home, **run.env})

        def work() -> str:
            ended = self._runner.run(made.layers, run, uid, self._lease, self._output)
            if ended.problem:
                raise BuildFailed(f"{instruction.text[:200]}: {ended.problem}", instruction.line)
            return ended.layer

        return self._cached(made, instruction, ("run", run, uid), work)

    def _copy(self, made: _Made, instruction: Instruction, copy: Copy) -> str:
        tree, source, skip = self._tree(made), self._context, self._skip
        if copy.origin:
            source, skip = self._origin(instruction, copy.origin), _nothing
        with at(instruction):
            owner = users.owner(tree, copy.owner) if copy.owner else None
            if owner is None and not copy.origin:
                owner = (0, 0)
            found: list[Node] = []
            for pattern in copy.sources:
                nodes = copying.chosen(source, pattern, skip)
                if not nodes:
                    raise ValueError(f"{pattern[:200]}: there is no such file")
                found += nodes
            content = copying.fingerprint(source, found, skip)

        def write(archive: tarfile.TarFile) -> None:
            writer = copying.Writer(archive, tree, owner=owner, mode=copy.mode)
            plain = []
            for node in found:
                inside = self._archives.open(node) if copy.unpack and node.is_file else None
                if inside is None:
                    plain.append(node)
                elif (top := inside.get(_ROOT)) is not None:
                    writer.copy(inside, [top], copy.target, _nothing)
            if plain:
                writer.copy(source, plain, copy.target, skip)

        return self._cached(
            made,
            instruction,
            ("copy", copy, owner, content),
            lambda: self._archive(instruction, write),
        )

    def _directory(self, made: _Made, instruction: Instruction, wanted: MakeDirectory) -> str:
        tree = self._tree(made)
        there = tree.get(tree.resolve(_ROOT / wanted.path))
        if there is not None and there.is_dir:
            self._tell(instruction, cached=True)
            return ""

        def write(archive: tarfile.TarFile) -> None:
            copying.Writer(archive, tree, owner=None, mode=None).directory(wanted.path)

        return self._cached(
            made, instruction, ("directory", wanted), lambda: self._archive(instruction, write)
        )

    def _cached(
        self,
        made: _Made,
        instruction: Instruction,
        parts: Sequence[object],
        work: Callable[[], str],
    ) -> str:
        key = cache.key([layer.digest for layer in made.layers], *parts)
        known = cache.find(self._graph.store, self._lease, key)
        self._tell(instruction, cached=known is not None)
        if known is not None:
            return known
        layer = work()
        cache.put(self._graph.store, key, layer)
        return layer

    def _archive(self, instruction: Instruction, write: Callable[[tarfile.TarFile], None]) -> str:
        with self._graph.store.writing(self._lease) as blob:
            sink = cast("BinaryIO", TarSink(blob))
            with (
                tarfile.open(mode="w|", fileobj=sink, format=tarfile.PAX_FORMAT) as archive,
                at(instruction),
            ):
                write(archive)
        return blob.digest

    def _origin(self, instruction: Instruction, name: str) -> Merged:
        number = _stage_number(self._file, name)
        if number is not None and number in self._made:
            return self._tree(self._made[number])
        with at(instruction):
            if number is not None and self._file.stages[number].start.line < instruction.line:
                return self._tree(self._stage(number))
            return Merged(_paths(self._image(name)[1]), self._uid_base)

    def _tree(self, made: _Made) -> Merged:
        return Merged(_paths(made.layers), self._uid_base)

    def _tell(self, instruction: Instruction, *, cached: bool) -> None:
        self._step += 1
        text = f"{instruction.keyword} {instruction.text}"
        self._report(
            Progress(
                type="step", step=self._step, steps=max(self._steps, self._step),
                line=instruction.line, text=text[:1000], cached=cached,
            )
        )  # fmt: skip

    def _output(self, data: bytes) -> None:
        self._report(Progress(type="output", text=data.decode(errors="replace")))

    def _assemble(self, made: _Made) -> str:
        place = here()
        config = Config(
            architecture=place.architecture,
            os=place.os,
            created=_now(),
            config=made.scope.config(),
            rootfs=RootFs([layer.diff_id for layer in made.layers]),
            history=made.history,
        )
        layers = [layer_of(self._graph.store, layer.digest) for layer in made.layers]
        return self._graph.images.assemble(self._lease, config, layers)


@contextmanager
def at(instruction: Instruction) -> Iterator[None]:
    """Faults of what an instruction asks for carry its line."""
    try:
        yield
    except (ValueError, UnknownImage) as error:
        raise instruction.fault(str(error)) from None


def _stage_number(file: Dockerfile, name: str, before: int | None = None) -> int | None:
    """The stage that a name or number means, the last of those before `before`."""
    stages = file.stages[:before]
    for number, stage in reversed(list(enumerate(stages))):
        if stage.name and stage.name == name.lower():
            return number
    return int(name) if name.isdecimal() and len(name) < 5 and int(name) < len(stages) else None


def _needed(file: Dockerfile, target: int) -> set[int]:
    """The stages that `target` is made of, as far as names tell."""
    needed, ahead = set(), [target]
    while ahead:
        number = ahead.pop()
        if number in needed:
            continue
        needed.add(number)
        stage = file.stages[number]
        names = [stage.base, *(step.flags.get("from", "") for step in stage.steps)]
        found = [_stage_number(file, name, before=number) for name in names if name]
        ahead += [each for each in found if each is not None]
    return needed


def _paths(layers: Sequence[Layer]) -> list[Path]:
    return [layer.path for layer in reversed(layers)]


def _nothing(_: PurePosixPath, __: bool) -> bool:
    return False


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
