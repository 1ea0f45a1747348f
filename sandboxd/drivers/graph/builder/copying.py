"""COPY and ADD: files of one tree as an archive that becomes a layer of another.

Nothing is written into an image's directories. What is copied goes as an archive to the unpacking child,
like every layer. Destinations follow the links that the image has, as a program inside would.
"""

import hashlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import IO, cast

from sandboxd.drivers.graph.builder.ignore import matches
from sandboxd.drivers.graph.merged import Merged, Node

Skip = Callable[[PurePosixPath, bool], bool]
"""Whether a path of the source tree is left out; with whether it is a directory."""

_DEPTH_MAX = 128
_CHUNK = 1 << 20


def chosen(tree: Merged, pattern: str, skip: Skip) -> list[Node]:
    """What a source means in `tree`, by name; `..` leads no higher than its root."""
    found = [PurePosixPath("/")]
    for part in PurePosixPath("/", pattern.lstrip("/")).parts[1:]:
        if part == "..":
            found = [path.parent for path in found]
        elif set(part) & set("*?["):
            found = [
                child.path
                for path in found
                if (node := tree.get(tree.resolve(path))) is not None and node.is_dir
                for child in tree.children(node)
                if matches(part, child.path.name)
            ]
        else:
            found = [path / part for path in found]
    nodes = [(path, tree.get(tree.resolve(path))) for path in found]
    return [node for path, node in nodes if node is not None and not skip(path, node.is_dir)]


def fingerprint(tree: Merged, nodes: Sequence[Node], skip: Skip) -> str:
    """Digest of names, kinds, modes and contents; not of times."""
    digest = hashlib.sha256()
    for top in nodes:
        for node, name in walk(tree, top, skip):
            mode = node.status.st_mode
            digest.update(f"{len(name)}:{name}:{mode}:{tree.owner(node)}:".encode(*_BYTES))
            if node.is_link:
                digest.update(os.fsencode(node.places[0].readlink()) + b"\0")
            elif node.is_file:
                with node.places[0].open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def walk(
    tree: Merged, top: Node, skip: Skip, name: str = "", depth: int = 0
) -> Iterator[tuple[Node, str]]:
    """A node and all below it, each with its path relative to the first, parents first."""
    yield top, name
    if not top.is_dir:
        return
    if depth > _DEPTH_MAX:
        raise ValueError(f"a tree of more than {_DEPTH_MAX} levels")
    for child in tree.children(top):
        if not skip(child.path, child.is_dir):
            inner = f"{name}/{child.path.name}" if name else child.path.name
            yield from walk(tree, child, skip, inner, depth + 1)


class Writer:
    """Writes what is copied into `archive`, at places that fit the `image` it goes on."""

    def __init__(
        self,
        archive: tarfile.TarFile,
        image: Merged,
        *,
        owner: tuple[int, int] | None,
        mode: int | None,
    ) -> None:
        """`owner` and `mode` are given to everything copied; None leaves the source's."""
        self._archive, self._image = archive, image
        self._owner, self._mode = owner, mode
        self._made: set[PurePosixPath] = set()

    def copy(self, tree: Merged, nodes: Sequence[Node], target: str, skip: Skip) -> None:
        """Raises ValueError where a directory would take a file's place or the reverse."""
        place = self._image.resolve(PurePosixPath(target))
        there = self._image.get(place)
        into = target.endswith("/") or len(nodes) > 1 or (there is not None and there.is_dir)
        for node in nodes:
            if node.is_dir:
                self._tree(tree, node, place, skip)
            else:
                at = place / node.path.name if into else place
                self._leaf(tree, node, self._image.resolve(at))

    def directory(self, path: str) -> bool:
        """Make a directory and those above it; whether there was anything to make."""
        before = len(self._made)
        place = self._image.resolve(PurePosixPath(path))
        if (there := self._image.get(place)) is not None and there.is_dir:
            return False
        self._parents(place / "x")
        return len(self._made) > before

    def _tree(self, tree: Merged, top: Node, place: PurePosixPath, skip: Skip) -> None:
        for node, name in walk(tree, top, skip):
            at = place
            for part in PurePosixPath(name).parts:
                at = self._image.resolve(at / part, follow_last=node.is_dir)
            if node.is_dir:
                self._directory(tree, node, at)
            else:
                self._leaf(tree, node, at)

    def _directory(self, tree: Merged, node: Node, at: PurePosixPath) -> None:
        self._parents(at)
        there = self._image.get(at)
        if at in self._made or at == PurePosixPath("/"):
            return
        if there is not None and there.is_dir:
            self._parents(at / "x")
            return
        if there is not None:
            raise ValueError(f"{at} is not a directory")
        self._made.add(at)
        self._archive.addfile(self._info(tree, node, at, tarfile.DIRTYPE))

    def _leaf(self, tree: Merged, node: Node, at: PurePosixPath) -> None:
        there = self._image.get(at)
        if at in self._made or (there is not None and there.is_dir):
            raise ValueError(f"{at} is a directory; {node.path.name} is not")
        if not (node.is_file or node.is_link):
            return  # pipes; the unpacking has left out devices
        self._parents(at)
        if node.is_link:
            info = self._info(tree, node, at, tarfile.SYMTYPE)
            info.linkname = str(node.places[0].readlink())
            self._archive.addfile(info)
            return
        with node.places[0].open("rb", buffering=0) as file:
            info = self._info(tree, node, at, tarfile.REGTYPE)
            info.size = node.status.st_size
            self._archive.addfile(info, cast("IO[bytes]", file))

    def _parents(self, path: PurePosixPath) -> None:
        """Entries of the directories above: as the image has them, or new ones of root."""
        for at in reversed(path.parents):
            if at in self._made or at == PurePosixPath("/"):
                continue
            there = self._image.get(at)
            if there is not None and not there.is_dir:
                raise ValueError(f"{at} is not a directory")
            self._made.add(at)
            info = tarfile.TarInfo(str(at)[1:])
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            if there is not None:
                info.mode = stat.S_IMODE(there.status.st_mode)
                info.uid, info.gid = self._image.owner(there)
                info.mtime = int(there.status.st_mtime)
            self._archive.addfile(info)

    def _info(self, tree: Merged, node: Node, at: PurePosixPath, kind: bytes) -> tarfile.TarInfo:
        info = tarfile.TarInfo(str(at)[1:])
        info.type, info.mtime = kind, int(node.status.st_mtime)
        info.mode = stat.S_IMODE(node.status.st_mode)
        if self._mode is not None and kind != tarfile.SYMTYPE:
            info.mode = self._mode
        info.uid, info.gid = self._owner if self._owner is not None else tree.owner(node)
        return info


_BYTES = ("utf-8", "surrogateescape")
