"""Trees that a build copies from: the context, and archives that ADD takes apart.

Both come as a stranger's archives and go through the unpacking child into directories of their own below
the store's `staging`, which nobody changes and which go when the build ends.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType

from sandboxd.drivers.graph.builder.copying import Skip
from sandboxd.drivers.graph.builder.ignore import Ignored
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.merged import Merged, Node
from sandboxd.drivers.graph.store import remove
from sandboxd.drivers.graph.unpack.parent import unpack

_IGNORE_MAX = 1 << 20
_UNSUPPORTED = {b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


@contextmanager
def unpacked(graph: Graph, archive: Path) -> Iterator[Path]:
    """The tree of an archive (plain, gzip or zstd) for the time of the block.

    Raises InvalidImage for what is refused, see `unpack/tree`.
    """
    directory = graph.store.staging("context")
    directory.mkdir(mode=0o700)
    try:
        unpack(archive, directory, limits=graph.layers.limits, uid_base=graph.uid_base)
        yield directory
    finally:
        remove(directory)


def ignored(context: Merged) -> Skip:
    """By the context's own `.dockerignore`."""
    text = context.read(PurePosixPath("/.dockerignore"), _IGNORE_MAX)
    rules = Ignored(text.decode(errors="replace").splitlines())
    return lambda path, is_dir: rules(str(path)[1:]) and not (is_dir and rules.exceptions)


class Archives:
    """The archives among what ADD copies, unpacked once each."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._open: list[Path] = []

    def open(self, node: Node) -> Merged | None:
        """The tree of a file that is an archive, None if it is none. Raises ValueError for one
        compressed by what is not supported, InvalidImage for one that is refused."""
        kind = _kind(node.places[0])
        if kind is None:
            return None
        if kind:
            raise ValueError(f"{node.path}: archives compressed by {kind} are not supported")
        directory = self._graph.store.staging("archive")
        directory.mkdir(mode=0o700)
        self._open.append(directory)
        graph = self._graph
        unpack(node.places[0], directory, limits=graph.layers.limits, uid_base=graph.uid_base)
        return Merged([directory], graph.uid_base)

    def __enter__(self) -> "Archives":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for directory in self._open:
            remove(directory)


def _kind(path: Path) -> str | None:
    """Empty for an archive that can be unpacked, how else it is compressed, or None for no archive."""
    with path.open("rb") as file:
        head = file.read(512)
    for magic, name in _UNSUPPORTED.items():
        if head.startswith(magic) and path.name.endswith((".tar.bz2", ".tbz2", ".tar.xz", ".txz")):
            return name
    if head[:2] == b"\x1f\x8b" or head[:4] == b"\x28\xb5\x2f\xfd":
        return "" if path.name.endswith((".tar.gz", ".tgz", ".tar.zst", ".tzst")) else None
    return "" if head[257:262] == b"ustar" else None
